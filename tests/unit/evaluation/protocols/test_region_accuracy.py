"""All thresholds at once against one at a time, and figures computed by hand."""

import subprocess
import sys

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from mining.boxes.boxes import Boxes
from mining.boxes.iou import iou_matrix
from mining.errors import MapError, ScoringError
from mining.evaluation.protocols.region_accuracy import RegionAccuracy
from mining.evaluation.protocols.wsoleval import threshold_grid
from mining.regions.extraction import RegionsAtThresholds, boxes_from_map, normalise_map, regions_at_thresholds
from tests.unit.regions.reference import reference_boxes

SIZE = (40, 40)


def map_with(*rectangles: tuple[int, int, int, int, float], size: tuple[int, int] = SIZE) -> np.ndarray:
    """(H, W) float32, 0 but for rectangles x0, y0, x1, y1 (half-open) of a value."""
    level = np.zeros(size, np.float32)
    for x0, y0, x1, y1, value in rectangles:
        level[y0:y1, x0:x1] = value
    return level


def hills(seed: int, side: int = 50) -> np.ndarray:
    coarse = np.random.default_rng(seed).random((7, 7)).astype(np.float32)
    return cv2.resize(coarse, (side, side), interpolation=cv2.INTER_CUBIC)


# --- one threshold after the other -----------------------------------------------------------------------------------


def pixels_of(boxes: Boxes, mask: np.ndarray) -> list[int]:
    """The pixels of each region, which its box distinguishes from all others of a mask."""
    stats = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)[2][1:]
    count = {(x, y, x + w, y + h): pixels for x, y, w, h, pixels in stats.tolist()}
    return [count[tuple(box)] for box in boxes.xyxy.astype(int).tolist()]


def assert_same_boxes(found: Boxes, expected: Boxes) -> None:
    for name in ("xyxy", "score", "peak", "mean_activation", "merged_from"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name), err_msg=name, strict=True)


def assert_as_level_by_level(activation: np.ndarray, thresholds: np.ndarray, **how) -> None:
    found = regions_at_thresholds(activation, thresholds, **how)
    truth = np.array([[0.0, 0.0, 3.0, 2.0], [1.5, 1.0, 6.0, 7.0]])
    best_iou = found.best_iou(truth)
    level = normalise_map(activation, how.get("normalise", "max"))
    for i, threshold in enumerate(thresholds.tolist()):
        expected = reference_boxes(activation, threshold=threshold, **how)
        assert_same_boxes(found.boxes_at(i), expected)
        assert_same_boxes(boxes_from_map(activation, threshold=threshold, **how), expected)
        if not len(expected):
            assert (found.largest[i], found.peak_holder[i]) == (-1, -1)
            assert [best_iou[kind][i] for kind in ("largest", "peak", "all")] == [0, 0, 0]
            continue
        pixels = pixels_of(expected, level >= threshold)
        largest, iou = pixels.index(max(pixels)), iou_matrix(expected.xyxy, truth).max(axis=1)
        assert found.area_px[found.largest[i]] == max(pixels)
        np.testing.assert_array_equal(found.xyxy[found.largest[i]], expected.xyxy[largest])
        np.testing.assert_array_equal(found.xyxy[found.peak_holder[i]], expected.xyxy[0])
        assert [best_iou[kind][i] for kind in ("largest", "peak", "all")] == [iou[largest], iou[0], iou.max()]


maps_of_few_levels = st.integers(1, 8).flatmap(
    lambda levels: arrays(np.int8, array_shapes(min_dims=2, max_dims=2, max_side=9), elements=st.integers(-1, levels))
)


@given(
    steps=maps_of_few_levels,
    thresholds=st.sets(st.sampled_from([i / 56 for i in range(56)]) | st.floats(0, 1, exclude_max=True), min_size=1),
    normalise=st.sampled_from(["max", "minmax"]),
    min_area_px=st.integers(1, 5),
)
@settings(max_examples=250, deadline=None)
def test_any_small_map_is_as_level_by_level(
    steps: np.ndarray, thresholds: set[float], normalise: str, min_area_px: int
) -> None:
    """Ties, plateaus, holes, single rows, constant maps; thresholds on and between the map's values."""
    activation, at = steps.astype(np.float32), np.array(sorted(thresholds))
    assert_as_level_by_level(activation, at, normalise=normalise, min_area_px=min_area_px)


@given(
    activation=arrays(np.float32, array_shapes(min_dims=2, max_dims=2, max_side=7), elements=st.floats(-1, 1, width=32))
)
@settings(max_examples=100, deadline=None)
def test_any_small_map_of_floats_is_cut_at_its_own_values_too(activation: np.ndarray) -> None:
    level = normalise_map(activation, "minmax")
    own = np.zeros(1) if level is None else np.unique(level[level < 1]).astype(np.float64)
    assert_as_level_by_level(activation, own, normalise="minmax", min_area_px=1)


@pytest.mark.parametrize(
    "activation",
    [
        *(hills(seed) for seed in range(4)),
        np.abs(hills(5) - 0.5),
        np.maximum(hills(6), 0.5),
        np.minimum(hills(7), 0.6),
        np.random.default_rng(0).random((60, 47), np.float32),
        np.random.default_rng(1).random((1, 300), np.float32),
        np.random.default_rng(2).random((300, 1), np.float32),
    ],
)
def test_larger_maps_are_as_level_by_level(activation: np.ndarray) -> None:
    """Smooth ones, with rings, plateaus at the bottom and at the top, and noise."""
    assert_as_level_by_level(activation, threshold_grid(0.02))
    assert_as_level_by_level(activation, threshold_grid(0.05), normalise="minmax", min_area_px=30)


def test_thresholds_may_lie_as_close_as_they_like() -> None:
    close = np.unique(np.concatenate([np.linspace(0.5, 0.5001, 40), np.linspace(0.7, 0.700000001, 5), [0.9]]))
    assert len(np.unique(close.astype(np.float32))) < len(close), "some are one in single precision"
    activation = hills(3)
    activation.flat[:40] = np.linspace(0.5, 0.5001, 40) * activation.max()
    assert_as_level_by_level(activation, close, min_area_px=1)


@given(seed=st.integers(0, 1000))
@settings(max_examples=30, deadline=None)
def test_a_mirrored_or_turned_map_has_mirrored_or_turned_regions(seed: int) -> None:
    activation, thresholds = hills(seed, 30), threshold_grid(0.01)
    expected = regions_at_thresholds(activation, thresholds)
    x0, y0, x1, y1 = expected.xyxy.T
    mirrored = np.stack([30 - x1, y0, 30 - x0, y1], axis=1)
    turned = np.stack([y0, x0, y1, x1], axis=1)
    for other, boxes in ((activation[:, ::-1], mirrored), (activation.T, turned)):
        found = regions_at_thresholds(other, thresholds)
        assert as_set(found, found.xyxy) == as_set(expected, boxes)
        for rows, same_rows in ((found.largest, expected.largest), (found.peak_holder, expected.peak_holder)):
            np.testing.assert_array_equal(found.xyxy[rows], boxes[same_rows])


def as_set(found: RegionsAtThresholds, xyxy: np.ndarray) -> set[tuple]:
    columns = (found.area_px, found.peak, found.mean_activation, found.lowest, found.highest)
    rows = set(zip(map(tuple, xyxy.tolist()), *(column.tolist() for column in columns), strict=True))
    assert len(rows) == len(xyxy)
    return rows


# --- by hand ---------------------------------------------------------------------------------------------------------


def test_a_region_is_written_down_once_for_all_thresholds_at_which_it_is_the_same() -> None:
    level = map_with((2, 2, 20, 20, 0.5), (5, 5, 9, 9, 1.0), (30, 30, 34, 35, 0.25))
    found = regions_at_thresholds(level, threshold_grid())
    rows = zip(found.xyxy.tolist(), found.area_px.tolist(), found.lowest.tolist(), found.highest.tolist(), strict=True)
    assert sorted(rows) == [
        ([0, 0, 40, 40], 1600, 0, 0),
        ([2, 2, 20, 20], 324, 1, 500),
        ([5, 5, 9, 9], 16, 501, 999),
        ([30, 30, 34, 35], 20, 1, 250),
    ]


def test_the_largest_region_need_not_hold_the_peak_nor_be_the_one_with_the_largest_box() -> None:
    level = map_with((1, 1, 9, 9, 0.5), (20, 20, 24, 24, 1.0), (10, 30, 39, 31, 0.5))
    found = regions_at_thresholds(level, [0.4])
    assert found.xyxy[found.largest].tolist() == [[1, 1, 9, 9]]
    assert found.xyxy[found.peak_holder].tolist() == [[20, 20, 24, 24]]


def test_of_equal_peaks_the_higher_mean_counts_even_of_a_region_that_did_not_change() -> None:
    level = map_with((2, 2, 8, 8, 1.0), (20, 2, 28, 8, 1.0), (20, 8, 28, 12, 0.3))
    found = regions_at_thresholds(level, [0.2, 0.4])
    assert found.xyxy[found.peak_holder].tolist() == [[2, 2, 8, 8], [20, 2, 28, 8]], "of equal means the larger box"


def test_of_regions_with_equally_many_pixels_the_one_with_the_higher_peak_is_the_largest() -> None:
    level = map_with((2, 2, 8, 8, 0.7), (20, 20, 26, 26, 0.8), (35, 35, 37, 37, 1.0))
    found = regions_at_thresholds(level, [0.5])
    assert found.xyxy[found.largest].tolist() == [[20, 20, 26, 26]]


def test_a_region_counts_from_the_threshold_at_which_it_has_pixels_enough() -> None:
    level = map_with((2, 2, 8, 8, 0.4), (3, 3, 5, 5, 1.0), (20, 20, 23, 23, 0.6))
    found = regions_at_thresholds(level, [0.3, 0.5, 0.7], min_area_px=9)
    assert [found.boxes_at(i).xyxy.tolist() for i in range(3)] == [
        [[2, 2, 8, 8], [20, 20, 23, 23]],
        [[20, 20, 23, 23]],
        [],
    ]
    assert found.peak_holder[2] == found.largest[2] == -1


@pytest.mark.parametrize("level", [np.zeros(SIZE), np.full(SIZE, 3.0), -map_with((0, 0, 40, 20, 1.0))])
def test_a_map_that_says_nothing_has_no_region_and_counts_as_not_right(level: np.ndarray) -> None:
    accuracy = RegionAccuracy()
    accuracy.add(level, [[0, 0, 40, 40]], SIZE)
    assert (accuracy.pairs, accuracy.max_box_acc("largest"), accuracy.max_box_acc("peak"), accuracy.max_box_acc_v2()) == (
        1, 0, 0, 0,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("level", "message"),
    [
        (np.full((3, 3), np.nan), "NaN"),
        (np.array([[0.0, np.inf]]), "infinity"),
        (np.array([[0.0, 1e300]]), "infinity"),
        (np.zeros((2, 3, 3)), "expected"),
        (np.zeros((3, 3), int), "expected"),
    ],
)
def test_a_map_that_is_none_is_refused_and_nothing_is_counted(level: np.ndarray, message: str) -> None:
    accuracy = RegionAccuracy([0.5])
    with pytest.raises(MapError, match=message):
        accuracy.add(level, [[0, 0, 9, 9]], (10, 10))
    assert accuracy.pairs == 0


@pytest.mark.parametrize("thresholds", [[], [0.5, 0.5], [0.5, 0.2], [-0.1, 0.5], [0.5, 1.0], [0.1, np.nan, 0.5]])
def test_thresholds_that_are_no_grid_are_refused(thresholds: list) -> None:
    with pytest.raises(ValueError, match="ascending"):
        regions_at_thresholds(map_with((0, 0, 9, 9, 1.0)), thresholds)


def test_true_boxes_that_are_none_are_refused() -> None:
    with pytest.raises(ScoringError, match="expected"):
        RegionAccuracy().add(map_with((0, 0, 9, 9, 1.0)), np.empty((0, 4)), SIZE)


# --- MaxBoxAcc -------------------------------------------------------------------------------------------------------


def test_one_map_has_the_figures_computed_by_hand() -> None:
    accuracy = RegionAccuracy([0.1, 0.6])
    accuracy.add(map_with((0, 0, 20, 20, 0.5), (30, 30, 36, 36, 1.0)), [[30, 30, 36, 40]], SIZE)
    # the small region's IoU is 0.6; it is the largest only where the other is not
    assert accuracy.correct["largest"].tolist() == [[0, 1], [0, 1], [0, 0]]
    assert accuracy.correct["peak"].tolist() == accuracy.correct["all"].tolist() == [[1, 1], [1, 1], [0, 0]]
    assert (accuracy.max_box_acc(), accuracy.max_box_acc("peak")) == (1, 1)
    assert accuracy.max_box_acc_v2() == pytest.approx(2 / 3)
    assert accuracy.best_thresholds("largest").tolist() == [0.6, 0.6, 0.1]


def test_true_boxes_are_in_pixels_of_the_image_whose_sides_may_be_stretched_differently() -> None:
    accuracy = RegionAccuracy([0.5])
    accuracy.add(map_with((5, 10, 10, 20, 1.0), size=(40, 20)), [[50, 20, 100, 40]], (200, 80))
    assert accuracy.best_accuracy("peak").tolist() == [1, 1, 1]


def random_pairs(seed: int) -> list[tuple[np.ndarray, np.ndarray, tuple[int, int]]]:
    rng = np.random.default_rng(seed)
    corners = np.sort(rng.integers(0, 31, (6, 2, 2)), axis=1).reshape(6, 1, 4)
    return [(hills(seed + i, 30), boxes, (30, 30)) for i, boxes in enumerate(corners)]


def counts(pairs: list, **how) -> dict[str, list]:
    accuracy = RegionAccuracy(threshold_grid(0.02), **how)
    for pair in pairs:
        accuracy.add(*pair)
    return {kind: correct.tolist() for kind, correct in accuracy.correct.items()}


@given(seed=st.integers(0, 1000), order=st.permutations(range(6)))
@settings(max_examples=20, deadline=None)
def test_the_order_of_images_does_not_matter(seed: int, order: list[int]) -> None:
    pairs = random_pairs(seed)
    assert counts([pairs[i] for i in order]) == counts(pairs)


@given(x=st.integers(0, 10), y=st.integers(0, 10), seed=st.integers(0, 1000))
@settings(max_examples=20, deadline=None)
def test_map_and_truth_shifted_alike_give_the_same(x: int, y: int, seed: int) -> None:
    def padded(left: int, top: int) -> list:
        sides = (top, 10 - top), (left, 10 - left)
        return [
            (np.pad(m, sides), boxes + np.array([left, top, left, top]), (40, 40)) for m, boxes, _ in random_pairs(seed)
        ]

    # above 0, where the whole map is one region
    assert [c[1:] for rows in counts(padded(x, y)).values() for c in rows] == [
        c[1:] for rows in counts(padded(0, 0)).values() for c in rows
    ]


@given(seed=st.integers(0, 1000))
@settings(max_examples=20, deadline=None)
def test_maps_of_the_true_boxes_score_1(seed: int) -> None:
    corners = np.random.default_rng(seed).integers(0, 20, (4, 2))
    boxes = np.concatenate([corners, corners + np.array([4, 7])], axis=1)
    pairs = [(map_with((*box, 1.0)), [box], SIZE) for box in boxes.tolist()]
    accuracy = RegionAccuracy([0.3, 0.7])
    for pair in pairs:
        accuracy.add(*pair)
    assert (accuracy.max_box_acc(), accuracy.max_box_acc("peak"), accuracy.max_box_acc_v2()) == (1, 1, 1)


def test_nowhere_to_keep_what_was_compiled_is_no_hindrance() -> None:
    nowhere = (
        "from numba.core import caching; caching.CacheImpl._locator_classes = []; import mining.regions.components"
    )
    subprocess.run([sys.executable, "-c", nowhere], check=True)
