"""Which scale of an adaptive pyramid names the classes, and what that costs."""

from collections.abc import Callable
from typing import Any, ClassVar

import pytest
from torch import Tensor

from mining.engine.pyramid import fuse_scales
from tests.factories import register_localizer
from tests.unit.engine.painting import BOX, RED, SHORT_SIDE, Found, Painted, black, crowd, scene, told


class SureAtOne(Painted):
    """Sees its classes at scale 1 and next to nothing of them at any other, as ImageNet's classifiers do."""

    name: ClassVar[str] = "sure-at-one"
    sides: ClassVar[list[tuple[int, int]]] = []

    def forward(self, images: Tensor) -> Tensor:
        self.sides.append((len(images), images.shape[2]))
        logits = super().forward(images)
        return logits if images.shape[2] <= SHORT_SIDE else logits - 12


@pytest.fixture
def sure(monkeypatch: pytest.MonkeyPatch) -> type[SureAtOne]:
    register_localizer(monkeypatch, SureAtOne)
    monkeypatch.setattr(SureAtOne, "sides", [])
    return SureAtOne


PYRAMID = (1.0, 1.5, 2.0)
PICTURES = {f"{number}.png": scene((BOX, RED)) for number in range(4)}


def class_scores(found: dict[str, Found]) -> list[tuple[str, float]]:
    return [(row["category"], pytest.approx(row["class_score"])) for one in found.values() for row in one.rows]


@pytest.mark.parametrize("scales", [PYRAMID, (2.0, 1.0, 1.5), (0.9, 1.5, 2.0), (1.0, 1.5), (0.75, 1.0, 2.0)])
def test_without_labels_the_scale_nearest_to_1_names_the_classes(
    mined: Callable[..., dict[str, Found]], sure: type[SureAtOne], scales: tuple[float, ...]
) -> None:
    options: dict[str, Any] = {"localizer": "sure-at-one", "scales": scales, "class_cut": 0.9}
    whole, adaptive = mined(PICTURES, None, **options), mined(PICTURES, None, adaptive=0.65, **options)
    assert [one.classes for one in adaptive.values()] == [["red"]] * len(PICTURES)
    assert class_scores(adaptive) == class_scores(whole)
    assert [one.outcome.ranked for one in adaptive.values()] == [one.outcome.ranked for one in whole.values()]


def test_a_stable_box_without_labels_is_cut_at_the_middle_scale_alone(
    mined: Callable[..., dict[str, Found]], sure: type[SureAtOne]
) -> None:
    found = mined(PICTURES, None, localizer="sure-at-one", scales=PYRAMID, adaptive=0.65, class_cut=0.9)
    assert [row["scales"] for one in found.values() for row in one.rows] == [[1.5]] * len(PICTURES)
    assert {side for _, side in sure.sides} == {SHORT_SIDE, SHORT_SIDE * 3 // 2}


def test_images_with_labels_pay_for_no_further_scale(
    mined: Callable[..., dict[str, Found]], sure: type[SureAtOne]
) -> None:
    labels = dict.fromkeys(PICTURES, ("red",))
    mined(PICTURES, labels, localizer="sure-at-one", scales=PYRAMID, adaptive=0.65)
    assert {side for _, side in sure.sides} == {SHORT_SIDE * 3 // 2}


def test_images_with_and_without_labels_share_a_shard(
    mined: Callable[..., dict[str, Found]], sure: type[SureAtOne]
) -> None:
    pictures = {**PICTURES, "black.png": black()}
    labels = {"1.png": ("red",), "3.png": ("red",), "0.png": (), "2.png": (), "black.png": ()}
    options: dict[str, Any] = {"localizer": "sure-at-one", "scales": PYRAMID, "adaptive": 0.65, "class_cut": 0.9}
    known, unknown = mined(pictures, labels, **options), mined(pictures, None, **options)
    assert [one.classes for one in known.values()] == [[], ["red"], [], ["red"], []]
    assert [one.classes for one in unknown.values()] == [["red"]] * 4 + [[]]
    assert [one.boxes for name, one in known.items() if labels[name]] == [unknown["1.png"].boxes] * 2


def test_an_image_without_any_class_needs_no_map(mined: Callable[..., dict[str, Found]], sure: type[SureAtOne]) -> None:
    pictures = {f"{number}.png": black() for number in range(4)}
    found = mined(pictures, None, localizer="sure-at-one", scales=PYRAMID, adaptive=0.65)
    assert {one.state for one in found.values()} == {"no_region"}
    assert {side for _, side in sure.sides} == {SHORT_SIDE}


def test_a_stable_image_is_fused_once_and_has_the_rows_of_the_middle_scale_alone(
    mined: Callable[..., dict[str, Found]], monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[int] = []

    def counted(levels: Any, size: tuple[int, int]) -> Tensor:
        calls.append(len(levels))
        return fuse_scales(levels, size)

    monkeypatch.setattr("mining.engine.box_extraction.fuse_scales", counted)
    labels = dict.fromkeys(crowd(), ("red", "green", "blue"))
    adaptive = mined(crowd(), labels, scales=PYRAMID, adaptive=0.01)
    assert calls == [1] * len(labels)
    assert told(adaptive) == told(mined(crowd(), labels, scales=(1.5,)))
