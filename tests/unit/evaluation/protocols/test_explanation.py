"""Loc(delta) on maps whose pixels can be counted."""

import numpy as np
import pytest

from mining.errors import MapError, ScoringError
from tests.oracles.protocols.explanation import explanation_accuracy, explanation_overlap

BOX = (2, 3, 6, 8)  # 4 x 5 px


def map_with(*rectangles: tuple[int, int, int, int, float]) -> np.ndarray:
    """(10, 12) float64, 0 but for rectangles x0, y0, x1, y1 (half-open) of a value."""
    level = np.zeros((10, 12))
    for x0, y0, x1, y1, value in rectangles:
        level[y0:y1, x0:x1] = value
    return level


def test_bright_in_the_box_and_nowhere_else_is_1() -> None:
    assert explanation_overlap(map_with((*BOX, 0.7)), [BOX]) == 1


def test_bright_pixels_inside_are_held_against_those_outside_and_the_area_of_the_box() -> None:
    level = map_with((2, 3, 4, 8, 1.0), (8, 0, 12, 1, 1.0))
    assert explanation_overlap(level, [BOX]) == pytest.approx(10 / (4 + 20))


def test_a_pixel_is_bright_above_delta_of_the_maps_range() -> None:
    level = 5 + 8 * map_with((2, 3, 6, 8, 0.25), (2, 3, 4, 8, 1.0))
    found = [explanation_overlap(level, [BOX], delta=delta) for delta in (0, 0.24, 0.25, 0.5)]
    assert found == [1, 1, 0.5, 0.5]


def test_several_boxes_of_a_class_are_one_region() -> None:
    level = map_with((0, 0, 4, 4, 1.0), (8, 8, 10, 10, 1.0))
    assert explanation_overlap(level, [(0, 0, 4, 3), (0, 1, 4, 4), (8, 8, 10, 10)]) == 1


def test_a_box_holds_the_pixels_whose_centres_it_holds() -> None:
    level = map_with((2, 3, 6, 8, 1.0))
    assert explanation_overlap(level, [(2.5, 3.4, 5.6, 7.6)]) == 1
    assert explanation_overlap(level, [(2.6, 3.0, 6.0, 8.0)]) == pytest.approx(15 / 20)


def test_what_reaches_over_the_border_is_not_counted() -> None:
    assert explanation_overlap(map_with((8, 6, 12, 10, 1.0)), [(8, 6, 20, 30)]) == 1


def test_black_pixels_of_the_photo_explain_nothing() -> None:
    photo = np.full((10, 12, 3), (0, 9, 0), np.uint8)
    photo[3:8, 2:4] = 0
    assert explanation_overlap(map_with((*BOX, 1.0)), [BOX], photo=photo) == 0.5
    assert explanation_overlap(map_with((*BOX, 1.0)), [BOX], photo=photo.max(axis=2)) == 0.5


@pytest.mark.parametrize("value", [0.0, 3.0])
def test_a_constant_map_explains_nothing(value: float) -> None:
    assert explanation_overlap(np.full((10, 12), value), [BOX]) == 0


def test_the_figure_is_the_mean_over_pairs() -> None:
    assert explanation_accuracy([0.25, 0.75, 0.5]) == 0.5
    assert explanation_accuracy([]) is None


@pytest.mark.parametrize("boxes", [[], [(20, 20, 30, 30)], [(3, 3, 3, 8)]])
def test_boxes_that_cover_nothing_are_refused(boxes: list) -> None:
    with pytest.raises(ScoringError, match="cover no pixel of the 12 x 10 map"):
        explanation_overlap(map_with(), boxes)


def test_a_photo_of_another_size_is_refused() -> None:
    with pytest.raises(ScoringError, match="photo has shape"):
        explanation_overlap(map_with(), [BOX], photo=np.ones((12, 10, 3)))


def test_a_broken_map_is_refused() -> None:
    with pytest.raises(MapError, match="NaN or infinity"):
        explanation_overlap(map_with((0, 0, 1, 1, np.nan)), [BOX])


@pytest.mark.parametrize("delta", [-0.1, 1.0])
def test_a_delta_that_leaves_nothing_or_everything_is_refused(delta: float) -> None:
    with pytest.raises(ValueError, match="delta is"):
        explanation_overlap(map_with(), [BOX], delta=delta)
