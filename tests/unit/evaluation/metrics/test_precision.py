"""Precision of the mined boxes, counted by hand, and the table of minimum scores."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mining.evaluation import Detections, TruthBoxes
from mining.evaluation.boxes import compute_overlaps
from mining.evaluation.metrics.precision import precision_by_min_score, precision_scores, score_cuts
from mining.evaluation.metrics.voc import rank_matches
from tests.unit.evaluation.by_hand import predicted_of, truth_of

BOX, FAR, FARTHER = (0, 0, 10, 10), (50, 50, 10, 10), (80, 80, 10, 10)


def precision_of(truth: TruthBoxes, predicted: Detections, resamples: int = 0) -> dict:
    return precision_scores(predicted, rank_matches(truth, predicted), "abc", seed=0, resamples=resamples)


def cuts_of(truth: TruthBoxes, predicted: Detections) -> list[dict]:
    return precision_by_min_score(truth, predicted, rank_matches(truth, predicted))


def test_a_box_on_a_true_box_of_its_class_is_correct() -> None:
    truth = truth_of((0, 0, BOX), (0, 1, FAR))
    predicted = predicted_of(((0, 0, BOX), 0.9), ((0, 0, FAR), 0.8), ((1, 0, BOX), 0.7), ((0, 1, FAR), 0.6))
    found = precision_of(truth, predicted)
    assert (found["value"], found["boxes"], found["correct"]) == (0.5, 4, 2)
    assert found["per_class"] == {"a": {"value": 1 / 3, "boxes": 3}, "b": {"value": 1.0, "boxes": 1}}


def test_a_true_box_counts_once_for_the_box_with_the_higher_score() -> None:
    predicted = predicted_of(((0, 0, BOX), 0.5), ((0, 0, (0, 0, 10, 9)), 0.9))
    assert precision_of(truth_of((0, 0, BOX)), predicted)["value"] == 0.5
    rows = cuts_of(truth_of((0, 0, BOX)), predicted)
    assert [(row["boxes"], row["precision"], row["recall"]) for row in rows][-1] == (1, 1.0, 1.0)


def test_a_box_on_a_difficult_box_is_neither_correct_nor_wrong() -> None:
    truth = truth_of((0, 0, BOX), (0, 0, FAR), ignored=(1,))
    predicted = predicted_of(((0, 0, BOX), 0.9), ((0, 0, FAR), 0.8), ((0, 0, FARTHER), 0.7))
    found = precision_of(truth, predicted)
    assert (found["value"], found["boxes"], found["ignored"]) == (0.5, 2, 1)


def test_without_boxes_precision_is_not_defined() -> None:
    found = precision_of(truth_of((0, 0, BOX)), predicted_of(), resamples=10)
    assert (found["value"], found["ci95"], found["per_class"]) == (None, None, {})
    assert cuts_of(truth_of((0, 0, BOX)), predicted_of()) == []


def test_the_interval_includes_the_value_and_is_reproducible() -> None:
    rows = [(image, 0, BOX) for image in range(60)]
    predicted = predicted_of(*(((image, 0, BOX if image % 3 else FAR), 0.5) for image in range(60)))
    first, again = (precision_of(truth_of(*rows), predicted, resamples=300) for _ in range(2))
    low, high = first["ci95"]
    assert low < first["value"] < high
    assert first == again


def test_each_cut_scores_the_boxes_that_are_left() -> None:
    truth = truth_of(*((image, 0, BOX) for image in range(4)))
    predicted = predicted_of(((0, 0, BOX), 0.9), ((1, 0, BOX), 0.7), ((2, 0, FAR), 0.5), ((3, 0, FAR), 0.3))
    rows = {row["min_score"]: row for row in cuts_of(truth, predicted)}
    assert rows[min(rows)] == {"min_score": min(rows), "boxes": 4, "precision": 0.5, "recall": 0.5}
    half = next(row for cut, row in rows.items() if 0.5 < cut <= 0.7)
    assert (half["boxes"], half["precision"], half["recall"]) == (2, 1.0, 0.5)


@given(seed=st.integers(0, 10_000))
@settings(max_examples=40, deadline=None)
def test_a_cut_equals_the_score_of_the_boxes_above_it(seed: int) -> None:
    rng = np.random.default_rng(seed)

    def rows(count: int) -> tuple:
        xywh = rng.integers(1, 14, (count, 4)).astype(float)
        return rng.integers(0, 6, count), rng.integers(0, 2, count), xywh

    truth = TruthBoxes(*rows(20), is_ignored=rng.random(20) < 0.2)
    predicted = Detections(*rows(40), rng.random(40).astype(np.float32))
    for row in cuts_of(truth, predicted):
        kept = predicted.where(predicted.scores >= np.float32(row["min_score"]))
        covered = compute_overlaps(truth, kept).truth_iou[truth.is_countable] >= 0.5
        assert row["boxes"] == len(kept)
        assert row["precision"] == precision_of(truth, kept)["value"]
        assert row["recall"] == pytest.approx(covered.mean())


def test_cuts_are_distinct_ascending_and_keep_all_boxes_first() -> None:
    scores = np.random.default_rng(0).beta(4, 1, 1000)
    cuts = score_cuts(scores)
    assert cuts == sorted(set(cuts))
    assert cuts[0] <= scores.min()
    assert 6 <= len(cuts) <= 8
    assert [round(float((scores >= cut).mean()), 1) for cut in cuts][1:4] == [0.9, 0.8, 0.5]


def test_scores_that_lie_close_together_get_more_decimals() -> None:
    cuts = score_cuts(np.linspace(0.9981, 0.9989, 100))
    assert len(cuts) == 7
    assert score_cuts(np.full(5, 0.5)) == [0.5]
