"""Class prediction in the adaptive pyramid: which scale is used, and which forward passes run."""

from collections.abc import Callable
from typing import Any, ClassVar

import pytest
from torch import Tensor

from mining.localizers.pyramid import fuse_scales
from tests.factories import register_localizer
from tests.unit.engine.painting import BOX, RED, SHORT_SIDE, ImageResult, Painted, black, comparable, crowd, scene


class ConfidentAtScale1(Painted):
    """Predicts classes confidently at scale 1 and hardly at larger scales, as ImageNet classifiers do."""

    name: ClassVar[str] = "sure-at-one"
    sides: ClassVar[list[tuple[int, int]]] = []

    def forward(self, images: Tensor) -> Tensor:
        self.sides.append((len(images), images.shape[2]))
        logits = super().forward(images)
        return logits if images.shape[2] <= SHORT_SIDE else logits - 12


@pytest.fixture
def sure(monkeypatch: pytest.MonkeyPatch) -> type[ConfidentAtScale1]:
    register_localizer(monkeypatch, ConfidentAtScale1)
    monkeypatch.setattr(ConfidentAtScale1, "sides", [])
    return ConfidentAtScale1


PYRAMID = (1.0, 1.5, 2.0)
PICTURES = {f"{number}.png": scene((BOX, RED)) for number in range(4)}


def class_scores(found: dict[str, ImageResult]) -> list[tuple[str, float]]:
    return [(row["category"], pytest.approx(row["class_score"])) for one in found.values() for row in one.rows]


@pytest.mark.parametrize("scales", [PYRAMID, (2.0, 1.0, 1.5), (0.9, 1.5, 2.0), (1.0, 1.5), (0.75, 1.0, 2.0)])
def test_without_labels_classes_are_predicted_at_the_scale_nearest_to_1(
    mined: Callable[..., dict[str, ImageResult]], sure: type[ConfidentAtScale1], scales: tuple[float, ...]
) -> None:
    options: dict[str, Any] = {"localizer": "sure-at-one", "scales": scales, "class_cut": 0.9}
    whole, adaptive = mined(PICTURES, None, **options), mined(PICTURES, None, adaptive=0.65, **options)
    assert [one.classes for one in adaptive.values()] == [["red"]] * len(PICTURES)
    assert class_scores(adaptive) == class_scores(whole)
    assert [one.outcome.ranked for one in adaptive.values()] == [one.outcome.ranked for one in whole.values()]


def test_without_labels_a_stable_box_is_extracted_from_the_middle_scale_only(
    mined: Callable[..., dict[str, ImageResult]], sure: type[ConfidentAtScale1]
) -> None:
    found = mined(PICTURES, None, localizer="sure-at-one", scales=PYRAMID, adaptive=0.65, class_cut=0.9)
    assert [row["scales"] for one in found.values() for row in one.rows] == [[1.5]] * len(PICTURES)
    assert {side for _, side in sure.sides} == {SHORT_SIDE, SHORT_SIDE * 3 // 2}


def test_labelled_images_need_no_forward_pass_at_scale_1(
    mined: Callable[..., dict[str, ImageResult]], sure: type[ConfidentAtScale1]
) -> None:
    labels = dict.fromkeys(PICTURES, ("red",))
    mined(PICTURES, labels, localizer="sure-at-one", scales=PYRAMID, adaptive=0.65)
    assert {side for _, side in sure.sides} == {SHORT_SIDE * 3 // 2}


def test_a_shard_can_mix_images_with_and_without_classes(
    mined: Callable[..., dict[str, ImageResult]], sure: type[ConfidentAtScale1]
) -> None:
    pictures = {**PICTURES, "black.png": black()}
    labels = {"1.png": ("red",), "3.png": ("red",), "0.png": (), "2.png": (), "black.png": ()}
    options: dict[str, Any] = {"localizer": "sure-at-one", "scales": PYRAMID, "adaptive": 0.65, "class_cut": 0.9}
    known, unknown = mined(pictures, labels, **options), mined(pictures, None, **options)
    assert [one.classes for one in known.values()] == [[], ["red"], [], ["red"], []]
    assert [one.classes for one in unknown.values()] == [["red"]] * 4 + [[]]
    assert [one.boxes for name, one in known.items() if labels[name]] == [unknown["1.png"].boxes] * 2


def test_no_maps_are_computed_for_an_image_without_classes(
    mined: Callable[..., dict[str, ImageResult]], sure: type[ConfidentAtScale1]
) -> None:
    pictures = {f"{number}.png": black() for number in range(4)}
    found = mined(pictures, None, localizer="sure-at-one", scales=PYRAMID, adaptive=0.65)
    assert {one.state for one in found.values()} == {"no_class"}
    assert {side for _, side in sure.sides} == {SHORT_SIDE}


def test_a_stable_image_is_fused_once_and_its_rows_equal_those_of_the_middle_scale(
    mined: Callable[..., dict[str, ImageResult]], monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[int] = []

    def counted(levels: Any, size: tuple[int, int], grids: Any) -> Tensor:
        calls.append(len(levels))
        return fuse_scales(levels, size, grids)

    monkeypatch.setattr("mining.engine.box_extraction.fuse_scales", counted)
    labels = dict.fromkeys(crowd(), ("red", "green", "blue"))
    adaptive = mined(crowd(), labels, scales=PYRAMID, adaptive=0.01)
    assert calls == [1] * len(labels)
    assert comparable(adaptive) == comparable(mined(crowd(), labels, scales=(1.5,)))
