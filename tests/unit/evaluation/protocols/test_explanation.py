"""Loc(delta) on maps whose pixels can be counted."""

import numpy as np
import pytest

from mining.errors import MapError, ScoringError
from mining.evaluation.protocols.explanation import DELTA, ExplanationAccuracy, explanation_overlap

BOX = (2, 3, 6, 8)  # 4 x 5 px


def map_with(*rectangles: tuple[int, int, int, int, float]) -> np.ndarray:
    """(10, 12) float64, 0 but for rectangles x0, y0, x1, y1 (half-open) of a value."""
    level = np.zeros((10, 12))
    for x0, y0, x1, y1, value in rectangles:
        level[y0:y1, x0:x1] = value
    return level


def overlap(level: np.ndarray, boxes: list, delta: float = DELTA) -> float:
    return float(explanation_overlap(level, boxes, [delta])[0])


def test_bright_in_the_box_and_nowhere_else_is_1() -> None:
    assert overlap(map_with((*BOX, 0.7)), [BOX]) == 1


def test_bright_pixels_inside_are_counted_against_those_outside_and_the_area_of_the_box() -> None:
    level = map_with((2, 3, 4, 8, 1.0), (8, 0, 12, 1, 1.0))
    assert overlap(level, [BOX]) == pytest.approx(10 / (4 + 20))


def test_a_pixel_is_bright_above_delta_of_the_maps_range() -> None:
    level = 5 + 8 * map_with((2, 3, 6, 8, 0.25), (2, 3, 4, 8, 1.0))
    assert explanation_overlap(level, [BOX], (0, 0.24, 0.25, 0.5)).tolist() == [1, 1, 0.5, 0.5]


def test_several_boxes_of_a_class_are_one_region() -> None:
    level = map_with((0, 0, 4, 4, 1.0), (8, 8, 10, 10, 1.0))
    assert overlap(level, [(0, 0, 4, 3), (0, 1, 4, 4), (8, 8, 10, 10)]) == 1


def test_a_pixel_is_in_a_box_if_its_centre_is() -> None:
    level = map_with((2, 3, 6, 8, 1.0))
    assert overlap(level, [(2.5, 3.4, 5.6, 7.6)]) == 1
    assert overlap(level, [(2.6, 3.0, 6.0, 8.0)]) == pytest.approx(15 / 20)


def test_what_reaches_over_the_border_is_not_counted() -> None:
    assert overlap(map_with((8, 6, 12, 10, 1.0)), [(8, 6, 20, 30)]) == 1


@pytest.mark.parametrize("value", [0.0, 3.0])
def test_a_constant_map_explains_nothing(value: float) -> None:
    assert overlap(np.full((10, 12), value), [BOX]) == 0


def test_a_box_smaller_than_a_pixel_is_not_explained() -> None:
    assert overlap(map_with((*BOX, 1.0)), [(3.1, 3.1, 3.4, 3.4)]) == 0
    assert overlap(map_with(), [(3.1, 3.1, 3.4, 3.4)]) == 0


def test_a_broken_map_is_refused() -> None:
    with pytest.raises(MapError, match="NaN or infinity"):
        overlap(map_with((0, 0, 1, 1, np.nan)), [BOX])


# --- over many maps --------------------------------------------------------------------------------------------------


def test_the_figure_is_the_mean_over_pairs_with_boxes_in_pixels_of_the_image() -> None:
    accuracy = ExplanationAccuracy()
    twice = [tuple(2 * side for side in BOX)]
    accuracy.add(map_with((*BOX, 1.0)), twice, (24, 20))
    accuracy.add(map_with((2, 3, 4, 8, 1.0)), twice, (24, 20))
    assert (accuracy.pairs, accuracy.accuracy_at()) == (2, 0.75)
    assert len(accuracy.accuracy()) == len(accuracy.deltas) == 20


def test_it_falls_with_delta_where_the_map_falls_off_inside_the_box() -> None:
    accuracy = ExplanationAccuracy()
    level = map_with((2, 3, 3, 8, 0.3), (3, 3, 4, 8, 0.6), (4, 3, 6, 8, 1.0))
    accuracy.add(level, [BOX], (12, 10))
    values = accuracy.accuracy()
    assert values[0] == 1
    assert (np.diff(values) <= 0).all()
    assert accuracy.accuracy_at(0.5) == pytest.approx(15 / 20)


def test_without_a_map_there_is_no_figure() -> None:
    with pytest.raises(ScoringError, match="No map was added"):
        ExplanationAccuracy().accuracy()


@pytest.mark.parametrize("deltas", [[], [-0.1], [1.0], [0.5, 0.5]])
def test_deltas_that_leave_nothing_or_everything_are_refused(deltas: list) -> None:
    with pytest.raises(ValueError, match="ascending, in"):
        ExplanationAccuracy(deltas)


def test_boxes_that_are_none_are_refused() -> None:
    accuracy = ExplanationAccuracy()
    with pytest.raises(ScoringError, match="True boxes"):
        accuracy.add(map_with(), [], (12, 10))
    assert accuracy.pairs == 0
