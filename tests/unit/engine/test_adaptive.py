"""The adaptive pyramid."""

from collections.abc import Callable
from typing import Any, ClassVar

import pytest
from torch import Tensor
from torch.nn import functional

from tests.factories import register_localizer
from tests.unit.engine.painting import (
    ALL,
    BLUE,
    BOX,
    RED,
    SHORT_SIDE,
    THINGS,
    WHITE,
    ImageResult,
    Painted,
    comparable,
    crowd,
    scene,
)


class BlurredMiddleScale(Painted):
    """Blurs the blue channel at scale 1.5, so that the box at this scale depends on the threshold."""

    name: ClassVar[str] = "soft"
    seen: ClassVar[list[tuple[int, int]]] = []

    def colours(self, images: Tensor) -> Tensor:
        maps = super().colours(images)
        self.seen.append((len(images), images.shape[2]))
        if images.shape[2] == SHORT_SIDE * 3 // 2:
            maps[:, 2] = functional.avg_pool2d(maps[:, 2:], 41, stride=1, padding=20)[:, 0]
        return maps


@pytest.fixture
def soft(monkeypatch: pytest.MonkeyPatch) -> type[BlurredMiddleScale]:
    register_localizer(monkeypatch, BlurredMiddleScale)
    monkeypatch.setattr(BlurredMiddleScale, "seen", [])
    return BlurredMiddleScale


PYRAMID = (1.0, 1.5, 2.0)


def test_the_adaptive_pyramid_runs_additional_scales_only_for_unstable_boxes(
    mined: Callable[..., dict[str, ImageResult]], soft: type[BlurredMiddleScale]
) -> None:
    pictures = {f"{number}.png": scene((BOX, BLUE if number in (1, 6) else RED)) for number in range(8)}
    labels = {name: ("blue" if name in ("1.png", "6.png") else "red",) for name in pictures}
    options: dict[str, Any] = {"localizer": "soft", "scales": PYRAMID, "batch_size": 4}
    found = mined(pictures, labels, adaptive=0.95, **options)
    whole, middle = mined(pictures, labels, **options), mined(pictures, labels, **{**options, "scales": (1.5,)})
    for name, one in found.items():
        expected = whole if labels[name] == ("blue",) else middle
        assert one.boxes == expected[name].boxes
        assert [row["scales"] for row in one.rows] == [list(PYRAMID) if labels[name] == ("blue",) else [1.5]]
    assert whole["1.png"].boxes != middle["1.png"].boxes


def test_the_adaptive_pyramid_runs_each_image_only_at_the_scales_it_needs(
    mined: Callable[..., dict[str, ImageResult]], soft: type[BlurredMiddleScale]
) -> None:
    pictures = {f"{number}.png": scene((BOX, BLUE if number % 4 == 1 else RED)) for number in range(16)}
    labels = {name: ("blue",) if int(name[:-4]) % 4 == 1 else ("red",) for name in pictures}
    mined(pictures, labels, localizer="soft", scales=PYRAMID, batch_size=4, adaptive=0.95)
    images_at = {side: sum(count for count, height in soft.seen if height == side) for side in (64, 96, 128)}
    assert images_at == {96: 16, 64: 4, 128: 4}


@pytest.mark.parametrize("batch_size", [1, 2, 3, 16])
def test_adaptive_pyramid_results_do_not_depend_on_the_batch_size(
    mined: Callable[..., dict[str, ImageResult]], batch_size: int
) -> None:
    options: dict[str, Any] = {"scales": PYRAMID, "class_cut": 0.3, "localizer": "coarse", "adaptive": 0.85}
    single = mined(crowd(), None, batch_size=4, **options)
    assert {len(row["scales"]) for one in single.values() for row in one.rows} == {1, 3}
    assert comparable(mined(crowd(), None, batch_size=batch_size, **options)) == comparable(single)


def test_an_image_that_loses_its_only_box_at_the_other_threshold_is_unstable(
    mined: Callable[..., dict[str, ImageResult]], soft: type[BlurredMiddleScale]
) -> None:
    """The region of the blurred square is smaller than `min_area` at the threshold, but not at 70 % of it."""
    mined(
        {"a.png": scene(((40, 24, 60, 40), BLUE))}, {"a.png": ("blue",)}, localizer="soft", scales=PYRAMID,
        threshold=0.95, min_area=0.04, adaptive=0.01,
    )  # fmt: skip
    assert (1, 128) in soft.seen


def test_an_adaptive_pyramid_with_one_scale_equals_plain_mining(mined: Callable[..., dict[str, ImageResult]]) -> None:
    assert comparable(mined(crowd(), None, adaptive=0.9)) == comparable(mined(crowd(), None))


def test_the_adaptive_pyramid_quarantines_an_image_with_nan_in_its_map(
    mined: Callable[..., dict[str, ImageResult]],
) -> None:
    pictures = {"a.png": THINGS["a.png"], "b.png": scene((BOX, RED), ((0, 0, 2, 2), WHITE))}
    found = mined(pictures, dict.fromkeys(pictures, ALL), localizer="overflowing", scales=(1.0, 2.0), adaptive=0.9)
    assert [one.state for one in found.values()] == ["labelled", "quarantined"]
