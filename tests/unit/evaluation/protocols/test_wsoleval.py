"""Threshold-independent scores of small maps, computed by hand."""

from collections.abc import Callable

import cv2
import numpy as np
import pytest

from mining.errors import MapError, ScoringError
from mining.evaluation.protocols.wsoleval import (
    BoxAccuracy,
    _euler_numbers_above,
    boxes_at_thresholds,
    grey_levels,
    iou_plus_one,
    normalise_map,
    resize_boxes,
    resize_map,
    threshold_grid,
)
from tests.oracles.protocols.pixel_precision import PixelPrecision, protocol_mask

SIZE = (224, 224)


def map_with(*squares: tuple[int, int, int, int, float]) -> np.ndarray:
    """(224, 224) float64, 0 but for rectangles x0, y0, x1, y1 (half-open) of a value."""
    level = np.zeros(SIZE)
    for x0, y0, x1, y1, value in squares:
        level[y0:y1, x0:x1] = value
    return level


# --- boxes -----------------------------------------------------------------------------------------------------------


def boxes_searched_at_every_threshold(grey: np.ndarray, thresholds: np.ndarray) -> tuple[list, list]:
    """The protocol as it reads: one threshold after the other on the whole map."""
    height, width = grey.shape
    largest, everything = [], []
    for threshold in thresholds:
        mask = (grey > int(threshold * int(grey.max()))).astype(np.uint8)
        contours = cv2.findContours(mask, cv2.RETR_TREE, cv2.CHAIN_APPROX_SIMPLE)[0]
        sides = [cv2.boundingRect(contour) for contour in contours]
        boxes = [[x, y, min(x + w, width - 1), min(y + h, height - 1)] for x, y, w, h in sides] or [[0, 0, 0, 0]]
        areas = [cv2.contourArea(contour) for contour in contours] or [0]
        largest.append(boxes[int(np.argmax(areas))])
        everything.append(boxes)
    return largest, everything


def noise(rng: np.random.Generator, levels: int) -> np.ndarray:
    return rng.integers(0, levels, rng.integers(1, 40, 2)).astype(np.uint8)


def stripes(rng: np.random.Generator, levels: int) -> np.ndarray:
    return np.broadcast_to(rng.integers(0, levels, (1, 30)), (20, 30)).astype(np.uint8)


def hills(rng: np.random.Generator, levels: int) -> np.ndarray:
    smooth = cv2.resize(rng.random((6, 6)), (60, 50), interpolation=cv2.INTER_CUBIC)
    return (normalise_map(smooth) * (levels - 1)).astype(np.uint8)


def craters(rng: np.random.Generator, levels: int) -> np.ndarray:
    """Rings around pits, so that holes open and close from level to level while nothing else changes."""
    return np.abs(hills(rng, levels).astype(int) - levels // 2).astype(np.uint8)


@pytest.mark.parametrize("levels", [2, 4, 16, 256])
@pytest.mark.parametrize("draw", [noise, stripes, hills, craters])
def test_boxes_are_those_of_a_search_at_every_threshold(
    draw: Callable[[np.random.Generator, int], np.ndarray], levels: int
) -> None:
    rng, thresholds = np.random.default_rng(levels), threshold_grid(0.003)
    for _ in range(10):
        grey = draw(rng, levels)
        found = boxes_at_thresholds(grey, thresholds)
        largest, everything = boxes_searched_at_every_threshold(grey, thresholds)
        assert found.of_largest_contour().tolist() == largest
        assert [boxes.tolist() for boxes in found.of_all_contours()] == everything


def test_an_island_that_appears_where_a_ring_closes_is_not_overlooked() -> None:
    """Components less holes stay at 1: one with none, then two with one."""
    grey = np.full((20, 40), 10, np.uint8)
    grey[4:14, 4:14] = 200
    grey[6:12, 6:12] = 10
    grey[6:12, 12:14] = 100
    grey[5:9, 25:30] = 100
    open_ring, closed_ring = boxes_at_thresholds(grey, [0.7, 0.3]).of_all_contours()
    assert open_ring.tolist() == [[4, 4, 14, 14]]
    assert sorted(closed_ring.tolist()) == [[4, 4, 14, 14], [5, 5, 13, 13], [25, 5, 30, 9]]


def components_less_holes(mask: np.ndarray) -> int:
    components = cv2.connectedComponents(mask.astype(np.uint8), connectivity=8)[0] - 1
    outside_and_holes = cv2.connectedComponents(1 - np.pad(mask, 1).astype(np.uint8), connectivity=4)[0] - 1
    return components - (outside_and_holes - 1)


@pytest.mark.parametrize("draw", [noise, stripes, hills, craters])
def test_euler_numbers_are_components_less_holes(draw: Callable[[np.random.Generator, int], np.ndarray]) -> None:
    grey = draw(np.random.default_rng(3), 16)
    assert _euler_numbers_above(grey)[:16].tolist() == [components_less_holes(grey > cut) for cut in range(16)]


def test_a_thousand_thresholds_cut_as_many_masks_as_the_map_has_levels_to_cut_between() -> None:
    grey = np.array([[0, 10, 10], [0, 200, 250]], np.uint8)
    found = boxes_at_thresholds(grey, threshold_grid())
    assert len(found.first) == 3
    assert np.bincount(found.mask).tolist() == [40, 760, 200], "int(t * 250) below 10, below 200, below 250"


def test_a_box_ends_one_pixel_behind_its_region_but_not_behind_the_map() -> None:
    grey = np.zeros((10, 12), np.uint8)
    grey[2:5, 3:6] = 9
    assert boxes_at_thresholds(grey, [0.5]).xyxy.tolist() == [[3, 2, 6, 5]]
    grey[2:10, 3:12] = 9
    assert boxes_at_thresholds(grey, [0.5]).xyxy.tolist() == [[3, 2, 11, 9]]


def test_a_hole_has_a_box_and_a_map_without_region_has_one_at_the_corner() -> None:
    ring = np.zeros((12, 12), np.uint8)
    ring[1:10, 1:10] = 255
    ring[4:7, 4:7] = 0
    found = boxes_at_thresholds(ring, [0.5])
    assert sorted(found.xyxy.tolist()) == [[1, 1, 10, 10], [3, 3, 8, 8]]
    assert found.of_largest_contour().tolist() == [[1, 1, 10, 10]]
    assert boxes_at_thresholds(np.zeros((5, 5), np.uint8), [0, 0.5]).of_largest_contour().tolist() == [[0] * 4] * 2


def test_a_line_of_many_pixels_is_smaller_than_a_square_of_few() -> None:
    grey = np.zeros((10, 30), np.uint8)
    grey[1, 1:29] = 255
    grey[5:8, 5:8] = 255
    assert boxes_at_thresholds(grey, [0.5]).of_largest_contour().tolist() == [[5, 5, 8, 8]]


def test_sides_count_with_one_added() -> None:
    assert iou_plus_one([[0, 0, 9, 9]], [[0, 0, 9, 4], [9, 9, 20, 20]]).tolist() == [[0.5, 1 / (100 + 144 - 1)]]


def test_resized_boxes_are_cut_off_not_rounded() -> None:
    assert resize_boxes([[1, 2, 99, 199]], (100, 200), (224, 224)).tolist() == [[2, 2, 221, 222]]


# --- maps ------------------------------------------------------------------------------------------------------------


def test_a_map_is_brought_to_0_1_only_after_it_was_resized() -> None:
    peak = np.zeros((7, 7))
    peak[3, 3] = 5
    level = resize_map(peak)
    assert (level.shape, level.min(), level.max()) == (SIZE, 0, 1)
    assert level[0, 0] > 0, "the interpolation goes below the corner's value"


@pytest.mark.parametrize("level", [np.full((3, 4), 2.5), np.array([[1.0, np.nan]]), np.zeros((1, 1))])
def test_constant_maps_and_nan_give_zeros(level: np.ndarray) -> None:
    assert not normalise_map(level).any()
    assert not resize_map(level).any()


@pytest.mark.parametrize(
    "level", [np.zeros((2, 3, 3)), np.zeros((0, 4)), np.zeros((3, 3), int), np.array([[-1e308, 1.7e308]])]
)
def test_what_is_no_finite_map_of_floats_is_refused(level: np.ndarray) -> None:
    with pytest.raises(MapError, match="expected"):
        normalise_map(level)


def test_infinity_is_refused_and_nothing_is_counted() -> None:
    accuracy = BoxAccuracy([0.5])
    with pytest.raises(MapError, match="infinity"):
        accuracy.add(np.array([[0.0, np.inf]]), [[0, 0, 9, 9]], (10, 10))
    assert accuracy.pairs == 0


def test_levels_are_cut_off_not_rounded() -> None:
    assert grey_levels(np.array([[0, 0.999, 1]])).tolist() == [[0, 254, 255]]


# --- MaxBoxAcc -------------------------------------------------------------------------------------------------------


def test_the_best_threshold_is_one_for_all_maps_and_chosen_for_each_iou() -> None:
    thresholds = [0.0, 0.3, 0.6]
    wide_at_low, narrow_at_high = (20, 20, 120, 120), (50, 50, 110, 110)
    accuracy = BoxAccuracy(thresholds)
    level = map_with((*wide_at_low, 0.2), (*narrow_at_high, 1.0))
    accuracy.add(level, [wide_at_low], SIZE)
    accuracy.add(level, [narrow_at_high], SIZE)
    accuracy.add(level, [narrow_at_high], SIZE)
    # IoU of the two boxes with each other is 0.36
    assert accuracy.correct["largest"].tolist() == [[3, 3, 3], [1, 2, 2], [1, 2, 2]]
    assert accuracy.best_accuracy("largest") == pytest.approx([1, 2 / 3, 2 / 3])
    assert accuracy.best_thresholds("largest").tolist() == [0, 0.3, 0.3]
    assert accuracy.max_box_acc() == pytest.approx(2 / 3)
    assert accuracy.max_box_acc_v2() == pytest.approx((1 + 2 / 3 + 2 / 3) / 3)


def test_a_smaller_region_counts_for_v2_only() -> None:
    accuracy = BoxAccuracy([0.5])
    accuracy.add(map_with((10, 10, 100, 100, 1.0), (150, 150, 180, 180, 1.0)), [[150, 150, 180, 180]], SIZE)
    assert (accuracy.max_box_acc(), accuracy.max_box_acc_v2()) == (0, 1)


def test_any_of_several_true_boxes_will_do_in_pixels_of_the_image() -> None:
    accuracy = BoxAccuracy([0.5])
    accuracy.add(map_with((20, 40, 60, 80, 1.0)), [[0, 0, 3, 3], [40, 20, 120, 40]], (448, 112))
    assert accuracy.max_box_acc() == 1


def test_half_of_a_box_is_right_at_an_iou_of_half() -> None:
    for height, right in ((81, [1, 1, 0]), (82, [1, 0, 0])):
        accuracy = BoxAccuracy([0.5])
        accuracy.add(map_with((20, 20, 60, 60, 1.0)), [[20, 20, 60, 20 + height]], SIZE)
        assert accuracy.correct["all"][:, 0].tolist() == right


def test_no_map_has_no_accuracy() -> None:
    with pytest.raises(ScoringError, match="No map"):
        BoxAccuracy().max_box_acc()


@pytest.mark.parametrize(
    ("boxes", "size"),
    [
        (np.empty((0, 4)), SIZE),
        ([0, 0, 5, 5], SIZE),
        ([[5, 0, 4, 5]], SIZE),
        ([[0, 0, 5, np.nan]], SIZE),
        ([[0, 0, 5, 5]], (0, 5)),
    ],
)
def test_true_boxes_that_are_none_are_refused(boxes: np.ndarray, size: tuple[int, int]) -> None:
    with pytest.raises(ScoringError, match="expected"):
        BoxAccuracy([0.5]).add(map_with((0, 0, 9, 9, 1.0)), boxes, size)


@pytest.mark.parametrize("thresholds", [[], [0.5, 0.5], [0.5, 0.2], [-0.1, 0.5], [0.5, 1.0], [np.nan], [[0.1, 0.2]]])
@pytest.mark.parametrize("counter", [BoxAccuracy, PixelPrecision])
def test_thresholds_that_are_no_grid_are_refused(
    counter: type[BoxAccuracy] | type[PixelPrecision], thresholds: list
) -> None:
    with pytest.raises(ValueError, match="ascending"):
        counter(thresholds)


def test_the_grid_is_the_protocols_thousand_by_default() -> None:
    assert len(BoxAccuracy().thresholds) == len(PixelPrecision().thresholds) == 1000


# --- PxAP ------------------------------------------------------------------------------------------------------------


def mask_of(*rectangles: tuple[int, int, int, int]) -> np.ndarray:
    return map_with(*((*rectangle, 1.0) for rectangle in rectangles)) > 0


NOTHING = np.zeros(SIZE, bool)


def test_a_map_that_is_the_mask_has_precision_1_and_an_inverse_one_the_objects_share() -> None:
    found = mask_of((0, 0, 224, 56))
    right, wrong = PixelPrecision(), PixelPrecision()
    right.add(found.astype(float), protocol_mask([found], NOTHING))
    wrong.add(1.0 - found, protocol_mask([found], NOTHING))
    assert right.px_ap() == 1
    assert wrong.px_ap() == pytest.approx(0.25), "all recalled at once, when every pixel counts as found"


def test_precision_is_summed_over_the_steps_of_recall() -> None:
    level = map_with((0, 0, 224, 56, 1.0), (0, 56, 224, 112, 0.5))
    precision = PixelPrecision([0.0, 0.25, 0.75])
    precision.add(level, protocol_mask([mask_of((0, 28, 224, 84))], NOTHING))
    # at 0.75 half of the object is recalled, half of what is found is right; at 0.25 the other half, likewise
    assert precision.px_ap() == pytest.approx(0.5)


def test_ignored_pixels_are_neither_right_nor_wrong_and_objects_win_over_them() -> None:
    mask = protocol_mask([mask_of((0, 0, 50, 50)), mask_of((100, 0, 150, 50))], mask_of((40, 0, 110, 50)))
    assert [int((mask == value).sum()) for value in (1, 255)] == [5000, 2500]
    precision = PixelPrecision()
    precision.add(mask_of((0, 0, 150, 50)).astype(float), mask)
    assert precision.px_ap() == 1
    assert precision.object_pixels.sum() + precision.background_pixels.sum() == 224 * 224 - 2500


def test_masks_of_any_size_are_brought_to_224() -> None:
    mask = protocol_mask([np.eye(2), np.array([[0, 7, 0, 0]])], np.zeros((3, 3)))
    assert mask.shape == SIZE
    assert [mask[0, 0], mask[0, 223], mask[223, 60], mask[223, 0]] == [1, 0, 1, 0]


def test_without_an_object_there_is_no_pxap() -> None:
    with pytest.raises(ScoringError, match="no object's mask"):
        protocol_mask([], NOTHING)
    precision = PixelPrecision()
    precision.add(map_with((0, 0, 9, 9, 1.0)), np.zeros(SIZE, np.uint8))
    with pytest.raises(ScoringError, match="No pixel of an object"):
        precision.px_ap()


def test_a_mask_of_another_size_is_refused() -> None:
    with pytest.raises(ScoringError, match="protocol_mask"):
        PixelPrecision().add(map_with((0, 0, 9, 9, 1.0)), np.zeros((10, 10), np.uint8))
