"""Localization and classification on hand-made boxes whose figures are known."""

import numpy as np
import pytest

from mining.boxes.iou import iou_matrix
from mining.errors import ScoringError
from mining.evaluation import Detections, TruthBoxes
from mining.evaluation.metrics.localization import NOT_ASKED, correct_shares, localization_scores
from tests.oracles.protocols.class_ranking import rank_classes
from tests.unit.evaluation.by_hand import best_first, truth_of

BOX, FAR = (0, 0, 10, 10), (50, 50, 10, 10)
FIGURES = ("gt_known_loc", "top1_loc", "top5_loc", "top1_cls", "top5_cls")


def accuracies(*given: object, **options: object) -> list[float | None]:
    found = localization_scores(*given, **options)
    return [found[name]["accuracy"] for name in FIGURES]


# --- one label an image ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ranked", "box", "expected"),
    [
        ([3, 0, 1, 2, 4, 5], BOX, [1, 1, 1, 1, 1]),
        ([0, 1, 2, 4, 3, 5], BOX, [1, 0, 1, 0, 1]),
        ([0, 1, 2, 4, 5, 3], BOX, [1, 0, 0, 0, 0]),
        ([3, 0, 1, 2, 4, 5], FAR, [0, 0, 0, 1, 1]),
    ],
)
def test_localized_means_the_class_among_the_best_and_its_box_right(ranked: list, box: tuple, expected: list) -> None:
    assert accuracies(truth_of((0, 3, BOX)), best_first((0, 3, box)), [ranked]) == expected


def test_the_box_of_another_class_does_not_help() -> None:
    assert accuracies(truth_of((0, 3, BOX)), best_first((0, 0, BOX)), [[0, 3]]) == [0, 0, 0, 0, 1]


def test_the_best_scored_box_of_the_class_decides() -> None:
    assert accuracies(truth_of((0, 0, BOX)), best_first((0, 0, FAR), (0, 0, BOX)), [[0]])[0] == 0


def test_any_true_box_of_the_class_will_do() -> None:
    assert accuracies(truth_of((0, 0, FAR), (0, 0, BOX)), best_first((0, 0, BOX)), [[0]])[0] == 1


def test_errors_are_what_is_left() -> None:
    truth = truth_of((0, 0, BOX), (1, 0, BOX), (2, 1, BOX))
    found = localization_scores(truth, best_first((0, 0, BOX)), [[0, 1]] * 3)
    assert found["gt_known_loc"] == {"accuracy": pytest.approx(1 / 3), "error": pytest.approx(2 / 3), "ci95": None}
    assert found["top1_cls"] == {"accuracy": pytest.approx(2 / 3), "error": pytest.approx(1 / 3), "ci95": None}


@pytest.mark.parametrize(("rule", "expected"), [("at_least", 1), ("above", 0)])
def test_an_iou_of_just_the_threshold_is_right_as_the_rule_says(rule: str, expected: int) -> None:
    half = best_first((0, 0, (0, 0, 10, 5)))
    assert accuracies(truth_of((0, 0, BOX)), half, [[0]], rule=rule)[:3] == [expected] * 3


# --- several labels --------------------------------------------------------------------------------------------------


def test_each_image_counts_once_and_its_classes_share_it() -> None:
    """Image 0 has three classes, of which one is found; image 1 has one, found."""
    truth = truth_of((0, 0, BOX), (0, 1, BOX), (0, 2, BOX), (1, 0, BOX))
    predicted = best_first((0, 0, BOX), (0, 1, FAR), (1, 0, BOX))
    assert accuracies(truth, predicted, [[0, 1, 2], [1, 2, 0]]) == pytest.approx([2 / 3, 1 / 6, 2 / 3, 1 / 6, 1])


def test_shares_of_images_come_with_their_positions() -> None:
    truth = truth_of((4, 0, BOX), (4, 1, BOX), (2, 0, BOX))
    found = correct_shares(truth, best_first((4, 1, BOX)), np.tile([0, 1], (5, 1)))
    assert found.image.tolist() == [2, 4]
    assert {name: found.shares[name].tolist() for name in FIGURES} == {
        "gt_known_loc": [0, 0.5],
        "top1_loc": [0, 0],
        "top5_loc": [0, 0.5],
        "top1_cls": [1, 0.5],
        "top5_cls": [1, 1],
    }


def error_as_the_challenge_words_it(truth: TruthBoxes, predicted: Detections, ranked: list[int], image: int) -> float:
    """1 / n sum over true classes of the least, over guesses and true boxes, of max(wrong class, wrong place)."""
    errors = []
    for one in sorted(set(truth.category[truth.image == image].tolist())):
        true_boxes = truth.xyxy[(truth.image == image) & (truth.category == one)]
        guesses = [1]
        for guess in ranked[:5]:
            box = predicted.xyxy[(predicted.image == image) & (predicted.category == guess)]
            guesses += [max(guess != one, iou_matrix(box, true)[0, 0] < 0.5) for true in true_boxes]
        errors.append(min(guesses))
    return sum(errors) / len(errors)


@pytest.mark.parametrize("seed", range(10))
def test_the_top_5_error_is_the_challenges(seed: int) -> None:
    """Of 12 images, 8 classes and a box for each."""
    rng = np.random.default_rng(seed)

    def boxes(rows: int) -> np.ndarray:
        return np.concatenate([rng.integers(0, 3, (rows, 2)), rng.integers(3, 7, (rows, 2))], axis=1)

    truth = TruthBoxes(np.arange(40) % 12, rng.integers(0, 8, 40), boxes(40))
    predicted = Detections(np.repeat(np.arange(12), 8), np.tile(np.arange(8), 12), boxes(96), np.ones(96))
    ranked = rank_classes(rng.random((12, 8)))
    expected = np.mean([error_as_the_challenge_words_it(truth, predicted, ranked[i].tolist(), i) for i in range(12)])
    assert 0 < expected < 1
    assert localization_scores(truth, predicted, ranked)["top5_loc"]["error"] == pytest.approx(expected)


# --- two boxes of two classes, and one of a third ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rank", "boxes", "expected"),
    [
        (1, [BOX, FAR, FAR], 1),
        (1, [FAR, BOX, FAR], 1),
        (1, [FAR, FAR, BOX], 0),
        (2, [FAR, BOX], 1),
        (3, [FAR, BOX], 0),
        (3, [BOX], 1),
        (4, [BOX], 0),
        (1, [], 0),
    ],
)
def test_of_five_guesses_the_first_two_classes_have_two_boxes(rank: int, boxes: list, expected: int) -> None:
    """Whether the box of class 7 is found that is among the best-scored of its class."""
    ranked = [one for one in (0, 1, 2, 3, 4) if one != rank - 1]
    ranked.insert(rank - 1, 7)
    predicted = best_first(*((0, 7, box) for box in boxes), (0, 0, BOX), (1, 7, BOX))
    found = localization_scores(truth_of((0, 7, BOX)), predicted, [ranked, ranked])
    assert found["top5_loc_2_2_1"]["accuracy"] == expected
    assert found["top1_loc"]["accuracy"] == (rank == 1 and boxes[:1] == [BOX])


@pytest.mark.parametrize("seed", range(5))
def test_the_five_guesses_are_those_of_the_definition(seed: int) -> None:
    """Three boxes of each of 6 classes in 10 images, compared with guesses that are listed one by one."""
    rng = np.random.default_rng(seed)

    def boxes(rows: int) -> np.ndarray:
        return np.concatenate([rng.integers(0, 3, (rows, 2)), rng.integers(3, 7, (rows, 2))], axis=1)

    truth = TruthBoxes(np.arange(10), rng.integers(0, 6, 10), boxes(10))
    predicted = Detections(np.repeat(np.arange(10), 18), np.tile(np.arange(6), 30), boxes(180), rng.random(180))
    ranked = rank_classes(rng.random((10, 6)))
    right = []
    for image in range(10):
        hits = []
        for category, count in zip(ranked[image, :3], (2, 2, 1), strict=True):
            own = np.flatnonzero((predicted.image == image) & (predicted.category == category))
            guesses = own[np.argsort(-predicted.scores[own])][:count]
            overlaps = iou_matrix(predicted.xyxy[guesses], truth.xyxy[image : image + 1])
            hits.append(category == truth.category[image] and bool((overlaps >= 0.5).any()))
        right.append(any(hits))
    found = localization_scores(truth, predicted, ranked)["top5_loc_2_2_1"]["accuracy"]
    assert found == pytest.approx(np.mean(right))


def test_without_rankings_there_is_no_figure_of_five_guesses() -> None:
    assert localization_scores(truth_of((0, 0, BOX)), best_first((0, 0, BOX)), None)["top5_loc_2_2_1"] is None


# --- what counts -----------------------------------------------------------------------------------------------------


def test_images_and_classes_without_a_countable_box_do_not_count() -> None:
    truth = truth_of((0, 0, BOX), (0, 1, BOX), (1, 0, BOX), ignored=(1, 2))
    found = localization_scores(truth, best_first((0, 0, BOX)), [[0], [1], [1]])
    assert found["images"] == 1
    assert found["top1_loc"]["accuracy"] == 1


def test_false_positives_are_counted_for_the_images_that_count() -> None:
    truth = truth_of((0, 0, BOX), (1, 0, BOX))
    predicted = best_first((0, 0, BOX), (0, 0, FAR), (0, 1, BOX), (1, 0, FAR), (2, 0, FAR))
    assert localization_scores(truth, predicted, [[0], [0]])["false_positives_per_image"] == 1.5


def test_no_prediction_scores_0() -> None:
    assert accuracies(truth_of((0, 0, BOX)), best_first(), [[0]]) == [0, 0, 0, 1, 1]


@pytest.mark.parametrize("truth", [truth_of(), truth_of((0, 0, BOX), ignored=(0,))])
def test_a_truth_without_countable_boxes_has_no_figure(truth: TruthBoxes) -> None:
    found = localization_scores(truth, best_first((0, 0, BOX)), [[0]])
    assert [found[name] for name in FIGURES] == [{"accuracy": None, "error": None, "ci95": None}] * 5
    assert (found["images"], found["false_positives_per_image"]) == (0, None)


def test_places_without_a_class_are_no_class() -> None:
    assert accuracies(truth_of((0, 0, BOX)), best_first((0, 0, BOX)), [[-1, -1]]) == [1, 0, 0, 0, 0]


# --- ranking ---------------------------------------------------------------------------------------------------------


def test_classes_rank_by_score_and_of_equal_ones_by_number() -> None:
    assert rank_classes([[0.1, 0.5, 0.2, 0.5], [3, 2, 1, 0]], top=3).tolist() == [[1, 3, 2], [0, 1, 2]]


def test_fewer_classes_than_requested_are_all_ranked() -> None:
    assert rank_classes([[0.1, 0.9]]).tolist() == [[1, 0]]


def test_one_class_alone_is_always_first() -> None:
    assert accuracies(truth_of((0, 0, BOX)), best_first((0, 0, BOX)), rank_classes([[0.2]])) == [1] * 5


@pytest.mark.parametrize("scores", [[0.1, 0.2], np.empty((3, 0)), [[0.1, np.nan]]])
def test_class_scores_that_rank_nothing_are_refused(scores: object) -> None:
    with pytest.raises(ScoringError, match="Class scores"):
        rank_classes(scores)


def test_an_image_that_is_not_ranked_is_named() -> None:
    with pytest.raises(ScoringError, match=r"\(2, 1\); expected one row per image, at least 3 rows"):
        localization_scores(truth_of((2, 0, BOX)), best_first(), [[0], [0]])


def test_images_whose_classes_nothing_was_to_rank_count_in_gt_known_alone() -> None:
    truth = truth_of((0, 0, BOX), (1, 0, BOX), (2, 1, BOX), (3, 1, BOX))
    boxes = best_first((0, 0, BOX), (1, 0, FAR), (2, 1, BOX), (3, 1, BOX))
    ranked = [[NOT_ASKED, -1], [NOT_ASKED, -1], [1, 0], [-1, -1]]
    found = localization_scores(truth, boxes, ranked, resamples=50)
    assert (found["images"], found["images_ranked"]) == (4, 2)
    assert found["gt_known_loc"]["accuracy"] == 0.75
    assert [found[name]["accuracy"] for name in FIGURES[1:]] == [0.5] * 4
    alone = localization_scores(
        truth_of((0, 1, BOX), (1, 1, BOX)), best_first((0, 1, BOX), (1, 1, BOX)), [[1, 0], [-1, -1]], resamples=50
    )
    assert found["top1_loc"] == alone["top1_loc"], "also the interval"
    none = localization_scores(truth, boxes, [[NOT_ASKED]] * 4)
    assert (none["top1_loc"], none["images_ranked"]) == (None, 0)
