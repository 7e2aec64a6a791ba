"""NL-CCAM's protocol where it differs from ours, on small maps and boxes."""

import numpy as np
import pytest

from mining.errors import MapError
from mining.evaluation.metrics.localization import localization_scores
from tests.oracles.protocols.nlccam import (
    SIDE_PX,
    box_of_largest_component,
    box_of_map,
    boxes_on_image,
    boxes_on_map,
    nlccam_scores,
)
from tests.unit.evaluation.by_hand import best_first, truth_of

BOX = (0, 0, 10, 10)


def map_with(*rectangles: tuple[int, int, int, int, float]) -> np.ndarray:
    """(224, 224) float64, 0 but for rectangles x0, y0, x1, y1 (half-open) of a value."""
    level = np.zeros((SIDE_PX, SIDE_PX))
    for x0, y0, x1, y1, value in rectangles:
        level[y0:y1, x0:x1] = value
    return level


def test_the_box_ends_behind_its_last_pixel() -> None:
    assert box_of_map(map_with((10, 20, 30, 50, 1.0))).tolist() == [10, 20, 30, 50]


def test_the_region_of_the_largest_box_wins_not_that_of_most_pixels() -> None:
    """An L of 65 pixels in a box of 40 x 26 against a square of 400."""
    level = map_with((100, 100, 120, 120, 1.0), (10, 10, 11, 50, 1.0), (10, 49, 36, 50, 1.0))
    assert box_of_map(level).tolist() == [10, 10, 36, 50]


def test_of_equal_boxes_the_first_wins_row_by_row() -> None:
    assert box_of_map(map_with((50, 10, 60, 20, 1.0), (10, 11, 20, 21, 1.0))).tolist() == [50, 10, 60, 20]


def test_regions_that_touch_at_a_corner_are_two() -> None:
    level = map_with((10, 10, 20, 20, 1.0), (20, 20, 32, 32, 1.0))
    assert box_of_map(level).tolist() == [20, 20, 32, 32]


def test_a_higher_threshold_can_give_a_larger_box() -> None:
    """It lowers the mean of what is kept, which is the second threshold."""
    level = map_with((0, 0, 224, 224, 0.48), (0, 0, 100, 100, 0.5), (0, 0, 60, 60, 1.0), (223, 223, 224, 224, 0.0))
    assert box_of_map(level, 0.4).tolist() == [0, 0, 60, 60], "nothing is cut, the mean is 0.52"
    assert box_of_map(level, 0.49).tolist() == [0, 0, 100, 100], "0.48 is cut, the mean is 0.14"


def test_a_map_is_brought_to_the_networks_size_first() -> None:
    small = np.zeros((14, 7))
    small[7:, :] = 1.0
    x0, y0, x1, y1 = box_of_map(small).tolist()
    assert (x0, x1, y1) == (0, SIDE_PX, SIDE_PX)
    assert y0 == pytest.approx(SIDE_PX / 2, abs=SIDE_PX / 14)


@pytest.mark.parametrize("value", [0.0, 2.5])
def test_a_constant_map_has_no_box(value: float) -> None:
    assert box_of_map(np.full((5, 5), value)) is None
    assert box_of_largest_component(np.full((5, 5), value)) is None


@pytest.mark.parametrize("level", [np.full((2, 2), np.nan), np.zeros(3)])
def test_what_is_no_map_is_refused(level: np.ndarray) -> None:
    with pytest.raises(MapError, match="activation map"):
        box_of_map(level)


def test_boxes_are_rounded_on_their_way_to_the_photo_and_back() -> None:
    assert boxes_on_image([[0, 1, 112, 224]], (448, 100)).tolist() == [[0, 0, 224, 100]]
    assert boxes_on_map([[0, 1, 225, 100]], (448, 100)).tolist() == [[0, 2, 112, 224]]
    assert boxes_on_map([[0, 0, 99, 100]], (100.9, 100)).tolist() == [[0, 0, 222, 224]], "sizes lose their fractions"


def test_sides_count_with_1_added_although_the_box_ends_behind_its_last_pixel() -> None:
    """50 of 100 px without, 66 of 121 with: the shared share rises from 0.5 to 0.545."""
    truth, predicted = truth_of((0, 0, BOX)), best_first((0, 0, (0, 0, 5, 10)))
    ours = localization_scores(truth, predicted, [[0]], iou_threshold=0.54)
    theirs = nlccam_scores(truth, predicted, [[0]], iou_threshold=0.54)
    assert [found["top1_loc"]["accuracy"] for found in (ours, theirs)] == [0, 1]
    assert theirs["definition"] != ours["definition"]
