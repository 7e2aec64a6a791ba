import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mining.boxes.boxes import Boxes
from mining.errors import MapError
from mining.regions.extraction import boxes_from_map, normalise_map


def blank(height: int = 20, width: int = 30) -> np.ndarray:
    return np.zeros((height, width), np.float32)


def noise(seed: int, height: int = 20, width: int = 30) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(height, width)).astype(np.float32)


def rows(boxes: Boxes) -> list[list[float]]:
    return boxes.xyxy.tolist()


def test_each_region_gets_a_box_highest_peak_first() -> None:
    activation = blank()
    activation[2:6, 3:9] = 0.5
    activation[10:15, 20:24] = 1.0
    activation[12, 1:28:26] = 0.1
    found = boxes_from_map(activation, threshold=0.3)
    assert rows(found) == [[20, 10, 24, 15], [3, 2, 9, 6]]
    assert found.peak.tolist() == [1.0, 0.5]
    assert found.score.tolist() == [1.0, 0.5]
    assert found.merged_from.tolist() == [1, 1]
    assert found.xyxy.dtype == np.float32


def test_the_box_of_a_region_of_the_whole_map_is_the_whole_map() -> None:
    activation = blank(6, 8) + 1
    activation[2, 2] = 2
    assert rows(boxes_from_map(activation, threshold=0.3)) == [[0, 0, 8, 6]]


def test_a_box_is_half_open_around_its_pixels() -> None:
    activation = blank()
    activation[4:7, 5:10] = 1
    (x0, y0, x1, y1) = rows(boxes_from_map(activation, threshold=0.5))[0]
    assert (x1 - x0) * (y1 - y0) == 15


def test_regions_that_touch_at_a_corner_are_connected() -> None:
    activation = blank()
    activation[2:5, 2:5] = 1
    activation[5:8, 5:8] = 1
    assert rows(boxes_from_map(activation, threshold=0.5)) == [[2, 2, 8, 8]]


def test_regions_one_pixel_apart_are_two() -> None:
    activation = blank()
    activation[2:5, 2:5] = 1
    activation[2:5, 6:9] = 1
    assert len(boxes_from_map(activation, threshold=0.5)) == 2


def test_a_hole_does_not_make_a_second_box() -> None:
    activation = blank()
    activation[2:14, 3:18] = 1
    activation[5:9, 6:12] = 0
    found = boxes_from_map(activation, threshold=0.5)
    assert rows(found) == [[3, 2, 18, 14]]
    assert found.mean_activation.tolist() == [1.0]


def test_a_region_inside_the_hole_of_another_gets_its_own_box_and_peak() -> None:
    activation = blank()
    activation[1:15, 1:20] = 0.5
    activation[3:13, 3:18] = 0
    activation[6:9, 8:12] = 1
    found = boxes_from_map(activation, threshold=0.4)
    assert rows(found) == [[8, 6, 12, 9], [1, 1, 20, 15]]
    assert found.peak.tolist() == [1.0, 0.5]


def test_the_mean_activation_is_that_of_the_region_not_of_the_box() -> None:
    activation = blank()
    activation[2:6, 2:6] = 1
    activation[2:6, 6:10] = 0.5
    activation[2:4, 8:10] = 0
    assert boxes_from_map(activation, threshold=0.4).mean_activation.tolist() == pytest.approx([(16 + 6) / 28])


@pytest.mark.parametrize("value", [0.0, 1.0, -3.0, 1e-8, 1e8])
@pytest.mark.parametrize("normalise", ["max", "minmax"])
def test_a_constant_map_gives_no_box(value: float, normalise: str) -> None:
    assert len(boxes_from_map(blank() + value, threshold=0.2, normalise=normalise)) == 0


def test_a_map_that_is_constant_up_to_rounding_gives_no_box() -> None:
    activation = blank() + 100
    activation[5:9, 5:9] += np.float32(1e-5)
    assert len(boxes_from_map(activation, threshold=0.2, normalise="minmax")) == 0


def test_a_map_without_positive_values_gives_boxes_only_with_minmax() -> None:
    activation = blank() - 2
    activation[4:8, 4:8] = -1
    assert len(boxes_from_map(activation, threshold=0.2, normalise="max")) == 0
    assert rows(boxes_from_map(activation, threshold=0.2, normalise="minmax")) == [[4, 4, 8, 8]]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("normalise", ["max", "minmax"])
def test_a_map_with_nan_or_infinity_is_refused(value: float, normalise: str) -> None:
    activation = blank()
    activation[3, 3] = value
    with pytest.raises(MapError, match="NaN or infinity"):
        boxes_from_map(activation, threshold=0.5, normalise=normalise)


def test_small_regions_are_dropped() -> None:
    activation = blank()
    activation[2, 2:5] = 1
    activation[10:12, 10:12] = 1
    assert rows(boxes_from_map(activation, threshold=0.5)) == [[10, 10, 12, 12]]
    assert len(boxes_from_map(activation, threshold=0.5, min_area_px=3)) == 2
    assert len(boxes_from_map(activation, threshold=0.5, min_area_px=5)) == 0


def steps() -> np.ndarray:
    """Plateaus of -1 (background), 0, 0.5 and 1."""
    activation = blank() - 1
    activation[2:18, 2:28] = 0
    activation[4:16, 4:26] = 0.5
    activation[6:14, 6:24] = 1
    return activation


@pytest.mark.parametrize(
    ("threshold", "box"), [(0.4, [4, 4, 26, 16]), (0.5, [4, 4, 26, 16]), (0.51, [6, 6, 24, 14]), (0.01, [4, 4, 26, 16])]
)
def test_with_max_the_threshold_is_a_share_of_the_maximum(threshold: float, box: list[int]) -> None:
    assert rows(boxes_from_map(steps(), threshold=threshold, normalise="max")) == [box]


@pytest.mark.parametrize(
    ("threshold", "box"),
    [(0.49, [2, 2, 28, 18]), (0.5, [2, 2, 28, 18]), (0.75, [4, 4, 26, 16]), (0.76, [6, 6, 24, 14])],
)
def test_with_minmax_the_threshold_is_a_share_of_the_range(threshold: float, box: list[int]) -> None:
    assert rows(boxes_from_map(steps(), threshold=threshold, normalise="minmax")) == [box]


@given(seed=st.integers(0, 10_000), factor=st.sampled_from([2.0**-40, 2.0**-10, 0.5, 4.0, 2.0**30]))
@settings(max_examples=60, deadline=None)
def test_a_scaled_map_gives_the_same_boxes(seed: int, factor: float) -> None:
    activation = noise(seed)
    for how in ("max", "minmax"):
        once = boxes_from_map(activation, threshold=0.4, normalise=how)
        scaled = boxes_from_map(activation * np.float32(factor), threshold=0.4, normalise=how)
        assert rows(once) == rows(scaled)
        assert once.peak.tolist() == scaled.peak.tolist()


@given(seed=st.integers(0, 10_000), threshold=st.floats(0.05, 0.95))
@settings(max_examples=60, deadline=None)
def test_boxes_lie_inside_the_map_and_peaks_reach_the_threshold(seed: int, threshold: float) -> None:
    found = boxes_from_map(noise(seed), threshold=threshold, min_area_px=1)
    assert found.peak[0] == 1
    assert (found.xyxy >= 0).all()
    assert (found.xyxy[:, 2:] <= (30, 20)).all()
    assert (found.xyxy[:, 2:] > found.xyxy[:, :2]).all()
    assert (found.peak >= np.float32(threshold)).all()
    assert (found.mean_activation <= found.peak + 1e-6).all()
    assert (np.diff(found.peak) <= 0).all()


@given(seed=st.integers(0, 10_000))
@settings(max_examples=40, deadline=None)
def test_a_mirrored_map_gives_mirrored_boxes(seed: int) -> None:
    activation = noise(seed)
    mirrored = boxes_from_map(np.ascontiguousarray(activation[:, ::-1]), threshold=0.4)
    turned = mirrored.xyxy[:, [2, 1, 0, 3]] * (-1, 1, -1, 1) + (30, 0, 30, 0)
    assert sorted(rows(boxes_from_map(activation, threshold=0.4))) == sorted(turned.tolist())


@pytest.mark.parametrize(("how", "lowest"), [("max", 0.0), ("minmax", 0.0)])
def test_normalised_maps_range_from_0_to_1(how: str, lowest: float) -> None:
    level = normalise_map(steps() * 7, how)
    assert level.dtype == np.float32
    assert (level.min(), level.max()) == (lowest, 1.0)


def test_boxes_scored_by_area_have_the_largest_region_first() -> None:
    """A small region of high activation, and one of four times as many pixels."""
    activation = np.zeros((20, 30), np.float32)
    activation[2:6, 2:6], activation[8:16, 10:18] = 1.0, 0.6
    found = boxes_from_map(activation, threshold=0.5, score="area")
    assert rows(found) == [[10, 8, 18, 16], [2, 2, 6, 6]]
    assert found.score.tolist() == [1, 0.25]
    assert found.peak.tolist() == pytest.approx([0.6, 1])
