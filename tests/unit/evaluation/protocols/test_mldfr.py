"""mLDFR's protocol where it differs from ours, on small maps and boxes."""

import numpy as np
import pytest

from mining.errors import MapError, ScoringError
from mining.evaluation import Detections, TruthBoxes
from mining.evaluation.metrics.corloc import corloc
from tests.oracles.protocols.mldfr import (
    boxes_of_map,
    cut_at_its_mean,
    labelled_once,
    macro_corloc,
    mask_of,
    mldfr_scores,
    top_classes,
)
from tests.unit.evaluation.by_hand import best_first, predicted_of, truth_of

BOX, FAR = (0, 0, 10, 10), (50, 50, 10, 10)
HALF = (0, 0, 5, 10)  # of BOX: with 1 added to each side 66 of 121 px, else 50 of 100


def map_with(*rectangles: tuple[int, int, int, int, float]) -> np.ndarray:
    """(20, 30) float32, 0 but for rectangles x0, y0, x1, y1 (half-open) of a value."""
    level = np.zeros((20, 30), np.float32)
    for x0, y0, x1, y1, value in rectangles:
        level[y0:y1, x0:x1] = value
    return level


# --- boxes -----------------------------------------------------------------------------------------------------------


def test_one_box_holds_all_regions_and_ends_with_its_last_pixel() -> None:
    level = map_with((2, 3, 6, 8, 1.0), (20, 10, 25, 12, 0.9))
    assert boxes_of_map(level).tolist() == [[2, 3, 24, 11, pytest.approx(level.mean())]]


def test_several_boxes_come_by_their_first_pixel_with_the_brightness_of_each() -> None:
    level = map_with((20, 10, 25, 12, 0.5), (2, 3, 6, 8, 1.0), (10, 3, 12, 5, 0.75))
    assert boxes_of_map(level, several=True).tolist() == [[2, 3, 5, 7, 1], [10, 3, 11, 4, 0.75], [20, 10, 24, 11, 0.5]]


def test_regions_that_touch_at_a_corner_are_two() -> None:
    assert len(boxes_of_map(map_with((2, 2, 4, 4, 1.0), (4, 4, 6, 6, 1.0)), several=True)) == 2


def test_the_mean_of_what_is_kept_is_a_second_threshold() -> None:
    """0.3 is above the threshold of 0.2 and below the mean of the map, 0.34."""
    level = map_with((0, 0, 30, 16, 0.3), (0, 0, 30, 2, 1.0))
    assert mask_of(level).sum() == 2 * 30


def test_the_score_is_of_the_map_as_it_came() -> None:
    level = 10 + 4 * map_with((2, 3, 6, 8, 1.0))
    assert boxes_of_map(level, several=True)[:, 4].tolist() == [14]


def test_the_cut_at_the_mean_turns_a_negative_map_over() -> None:
    level = map_with((2, 3, 6, 8, 1.0)) - 5
    cut = cut_at_its_mean(level)
    assert (cut[level == -5] == 0).all()
    assert (cut[level == -4] == -4).all()


@pytest.mark.parametrize("value", [0.0, 3.0, -2.0])
@pytest.mark.parametrize("several", [False, True])
def test_a_constant_map_has_no_box(value: float, several: bool) -> None:
    assert boxes_of_map(np.full((4, 5), value, np.float32), several=several).shape == (0, 5)


@pytest.mark.parametrize("level", [np.full((2, 2), np.nan), np.array([[np.inf, 0]]), np.zeros(3), np.zeros((0, 4))])
def test_what_is_no_map_is_refused(level: np.ndarray) -> None:
    with pytest.raises(MapError, match="activation map"):
        boxes_of_map(level)


# --- CorLoc ----------------------------------------------------------------------------------------------------------


def test_sides_count_with_1_added() -> None:
    truth, predicted = truth_of((0, 0, BOX)), best_first((0, 0, HALF))
    assert corloc(truth, predicted, iou_threshold=0.52) == 0
    assert macro_corloc(truth, predicted, [[1]], iou_threshold=0.52) == 1
    assert macro_corloc(truth, predicted, [[1]], iou_threshold=0.55) == 0


def test_any_box_of_the_class_will_do() -> None:
    assert macro_corloc(truth_of((0, 0, BOX)), best_first((0, 0, FAR), (0, 0, BOX)), [[1]]) == 1


def test_each_class_weighs_the_same() -> None:
    truth = truth_of(*((image, 0, BOX) for image in range(3)), (3, 1, BOX))
    labelled = labelled_once([0, 0, 0, 1], 2)
    assert macro_corloc(truth, best_first((3, 1, BOX)), labelled) == 0.5


def test_with_several_labels_an_image_counts_for_each_class() -> None:
    truth = truth_of((0, 0, BOX), (0, 1, FAR), (1, 1, BOX))
    found = macro_corloc(truth, best_first((0, 0, BOX), (0, 1, FAR)), [[1, 1], [0, 1]])
    assert found == pytest.approx((1 + 1 / 2) / 2)


def test_a_label_without_a_true_box_is_a_miss_and_a_box_without_a_label_no_hit() -> None:
    truth = truth_of((0, 0, BOX), (1, 1, BOX))
    predicted = best_first((0, 0, BOX), (1, 1, BOX))
    assert macro_corloc(truth, predicted, [[1, 0], [1, 0], [0, 1]]) == 0.25


@pytest.mark.parametrize("labelled", [[[1, 0]], np.empty((1, 0), bool)])
def test_a_class_that_labels_no_image_leaves_corloc_undefined(labelled: object) -> None:
    truth = truth_of((0, 0, BOX)) if np.size(labelled) else truth_of()
    assert macro_corloc(truth, best_first((0, 0, BOX)), labelled) is None


def test_too_few_labels_are_refused() -> None:
    with pytest.raises(ScoringError, match=r"Labels have shape \(1, 1\).* 2 and 1"):
        macro_corloc(truth_of((1, 0, BOX)), best_first(), [[1]])


# --- all figures -----------------------------------------------------------------------------------------------------


def test_all_figures_of_a_known_case() -> None:
    """Image 0 is right at once, 1 among the five and right, 2 first and missed, 3 not among the five."""
    truth = truth_of((0, 0, BOX), (1, 0, BOX), (2, 1, BOX), (3, 1, BOX))
    predicted = best_first((0, 0, BOX), (1, 0, BOX), (2, 1, FAR), (3, 1, BOX))
    scores = [[6, 5, 4, 3, 2, 1], [2, 6, 5, 4, 3, 1], [5, 6, 4, 3, 2, 1], [6, 1, 5, 4, 3, 2]]
    found = mldfr_scores(truth, predicted, np.array(scores)[:, :6])
    accuracies = {name: found[name]["accuracy"] for name in ("top1_cls", "top5_cls", "top1_loc", "top5_loc")}
    assert accuracies == {"top1_cls": 0.5, "top5_cls": 0.75, "top1_loc": 0.25, "top5_loc": 0.5}
    assert found["corloc"] is None, "four of the six classes label no image"


def test_gt_known_is_corloc_over_classes() -> None:
    truth = truth_of((0, 0, BOX), (1, 0, BOX), (2, 0, BOX), (3, 1, BOX))
    found = mldfr_scores(truth, best_first((3, 1, BOX)), np.eye(2)[[0, 0, 0, 1]])
    assert (found["corloc"], found["gt_known_loc"]) == (0.5, {"accuracy": 0.5, "error": 0.5})
    assert found["top1_loc"]["accuracy"] == 0.25


def test_all_figures_count_sides_with_1_added() -> None:
    found = mldfr_scores(truth_of((0, 0, BOX)), best_first((0, 0, HALF)), [[1.0]], iou_threshold=0.52)
    assert [found[name]["accuracy"] for name in ("gt_known_loc", "top1_loc", "top5_loc")] == [1, 1, 1]


def test_an_image_of_two_classes_is_refused() -> None:
    with pytest.raises(ScoringError, match="Image 1 has true boxes of several classes"):
        mldfr_scores(truth_of((0, 0, BOX), (1, 0, BOX), (1, 1, BOX)), best_first(), np.zeros((2, 2)))


def test_class_scores_that_lack_a_class_are_refused() -> None:
    with pytest.raises(ScoringError, match=r"Class scores have shape \(1, 2\).* 1 and 3"):
        mldfr_scores(truth_of((0, 2, BOX)), best_first(), np.zeros((1, 2)))


def test_a_truth_without_countable_boxes_has_no_figure() -> None:
    found = mldfr_scores(truth_of((0, 0, BOX), ignored=(0,)), best_first(), np.zeros((1, 2)))
    assert (found["corloc"], found["top5_loc"]["error"]) == (None, None)


def test_of_equal_scores_the_higher_class_goes_first() -> None:
    assert top_classes([[0.5, 0.9, 0.5]]).tolist() == [[1, 2, 0]]


def test_the_boxes_given_are_left_alone() -> None:
    truth, predicted = truth_of((0, 0, BOX)), predicted_of(((0, 0, BOX), 0.5))
    before = [boxes.xywh.copy() for boxes in (truth, predicted)]
    macro_corloc(truth, predicted, [[1]])
    for boxes, xywh in zip((truth, predicted), before, strict=True):
        assert isinstance(boxes, TruthBoxes | Detections)
        np.testing.assert_array_equal(boxes.xywh, xywh)
