"""VOC's average precision on hand-made boxes whose values are known."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mining.boxes.iou import iou_matrix
from mining.evaluation import Detections, TruthBoxes
from mining.evaluation.metrics.voc import PrecisionRecallCurve, rank_matches, resampled_average_precision, voc_scores
from tests.unit.evaluation.by_hand import predicted_of, truth_of

BOX, FAR, FARTHER = (0, 0, 10, 10), (50, 50, 10, 10), (80, 80, 10, 10)


def curve(*right: int, objects: int) -> PrecisionRecallCurve:
    return PrecisionRecallCurve(np.cumsum(right), objects)


# --- which predictions are right -------------------------------------------------------------------------------------


def test_a_box_is_found_once_and_by_the_surest() -> None:
    truth = truth_of((0, 0, BOX))
    found = rank_matches(truth, predicted_of(((0, 0, BOX), 0.4), ((0, 0, (0, 0, 10, 9)), 0.9), ((0, 0, BOX), 0.8)))
    assert found.is_correct.tolist() == [False, True, False]
    assert not found.is_ignored.any()


def test_of_equal_scores_the_first_finds_the_box() -> None:
    found = rank_matches(truth_of((0, 0, BOX)), predicted_of(((0, 0, BOX), 0.5), ((0, 0, BOX), 0.5)))
    assert found.is_correct.tolist() == [True, False]


def test_the_next_best_box_is_not_tried_when_the_best_is_taken() -> None:
    truth = truth_of((0, 0, (0, 0, 10, 10)), (0, 0, (0, 2, 10, 10)))
    both_on_the_first = predicted_of(((0, 0, (0, 0, 10, 10)), 0.9), ((0, 0, (0, 0.5, 10, 10)), 0.8))
    found = rank_matches(truth, both_on_the_first)
    assert found.true_box.tolist() == [0, 0]
    assert found.is_correct.tolist() == [True, False]


def test_of_boxes_overlapped_alike_the_first_is_meant() -> None:
    truth = truth_of((0, 0, (0, 0, 10, 10)), (0, 0, (0, 0, 10, 10)))
    assert rank_matches(truth, predicted_of(((0, 0, BOX), 0.9))).true_box.tolist() == [0]


def test_a_difficult_box_is_neither_right_nor_wrong_to_find_any_number_of_times() -> None:
    truth = truth_of((0, 0, BOX), (0, 0, FAR), ignored=(1,))
    found = rank_matches(truth, predicted_of(((0, 0, FAR), 0.9), ((0, 0, FAR), 0.8), ((0, 0, BOX), 0.7)))
    assert found.is_ignored.tolist() == [True, True, False]
    assert found.is_correct.tolist() == [False, False, True]


def test_what_overlaps_a_difficult_box_more_is_not_the_countable_ones() -> None:
    truth = truth_of((0, 0, (0, 0, 10, 10)), (0, 0, (0, 1, 10, 10)), ignored=(1,))
    found = rank_matches(truth, predicted_of(((0, 0, (0, 1, 10, 10)), 0.9)))
    assert (found.is_correct.tolist(), found.is_ignored.tolist()) == ([False], [True])


def test_a_box_of_another_class_or_image_is_not_found() -> None:
    found = rank_matches(truth_of((0, 0, BOX)), predicted_of(((0, 1, BOX), 0.9), ((1, 0, BOX), 0.9)))
    assert found.true_box.tolist() == [-1, -1]
    assert not found.is_correct.any()


@pytest.mark.parametrize(("rule", "is_correct"), [("at_least", True), ("above", False)])
def test_an_iou_of_just_the_threshold_is_right_as_the_rule_says(rule: str, is_correct: bool) -> None:
    found = rank_matches(truth_of((0, 0, BOX)), predicted_of(((0, 0, (0, 0, 10, 5)), 0.9)), rule=rule)
    assert found.is_correct.tolist() == [is_correct]


def test_a_lower_threshold_finds_more() -> None:
    truth, predicted = truth_of((0, 0, BOX)), predicted_of(((0, 0, (0, 0, 10, 4)), 0.9))
    assert [voc_scores(truth, predicted, ["a"], iou_threshold=t)["AP_all_point"] for t in (0.3, 0.5)] == [1, 0]


def test_the_scores_have_the_means_at_lower_thresholds_too() -> None:
    truth, predicted = random_pictures(seed=11)
    found = voc_scores(truth, predicted, "abc")
    assert list(found["at_iou"]) == ["0.3", "0.1"]
    for iou, means in found["at_iou"].items():
        alone = voc_scores(truth, predicted, "abc", iou_threshold=float(iou))
        assert means == {name: alone[name] for name in ("AP_11_point", "AP_all_point")}
    assert found["AP_11_point"] <= found["at_iou"]["0.3"]["AP_11_point"] <= found["at_iou"]["0.1"]["AP_11_point"]
    assert found["AP_11_point"] < found["at_iou"]["0.1"]["AP_11_point"]


@pytest.mark.parametrize(
    ("threshold", "rule", "told"), [(0, "at_least", "threshold is 0"), (0.5, "over", "rule is 'over'")]
)
def test_an_invalid_threshold_or_rule_is_refused(threshold: float, rule: str, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        voc_scores(truth_of(), predicted_of(), [], iou_threshold=threshold, rule=rule)


def verdicts_one_by_one(truth: TruthBoxes, predicted: Detections, threshold: float) -> list[str]:
    """The rules as they read: one prediction after the other, the surest first."""
    taken: set[int] = set()
    told = [""] * len(predicted)
    for row in sorted(range(len(predicted)), key=lambda row: -predicted.scores[row]):
        same = (truth.image == predicted.image[row]) & (truth.category == predicted.category[row])
        iou = np.where(same, iou_matrix(predicted.xyxy[row], truth.xyxy)[0], -1)
        best = int(iou.argmax())
        if iou[best] < threshold:
            told[row] = "wrong"
        elif truth.is_ignored[best]:
            told[row] = "ignored"
        else:
            told[row] = "wrong" if best in taken else "right"
            taken.add(best)
    return told


@pytest.mark.parametrize("seed", range(20))
def test_all_at_once_is_one_by_one(seed: int) -> None:
    rng = np.random.default_rng(seed)

    def columns(rows: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        return rng.integers(0, 3, rows), rng.integers(0, 2, rows), rng.integers(1, 6, (rows, 4))

    truth = TruthBoxes(*columns(40), is_ignored=rng.random(40) < 0.3)
    predicted = Detections(*columns(60), rng.integers(0, 9, 60))
    found = rank_matches(truth, predicted, iou_threshold=0.4)
    told = np.select([found.is_correct, found.is_ignored], ["right", "ignored"], "wrong")
    assert told.tolist() == verdicts_one_by_one(truth, predicted, 0.4)
    assert set(told) == {"right", "ignored", "wrong"}


# --- the area under the curve ----------------------------------------------------------------------------------------


def test_right_wrong_right_of_two_objects() -> None:
    """Precisions 1, 1/2, 2/3 at recalls 1/2, 1/2, 1: the best is 1 up to recall 0.5, 2/3 above."""
    found = curve(1, 0, 1, objects=2)
    assert found.average_precision_all_point() == pytest.approx(0.5 + 0.5 * 2 / 3)
    assert found.average_precision_11_point() == pytest.approx((6 + 5 * 2 / 3) / 11)


def test_precision_at_a_recall_is_the_best_at_it_or_above() -> None:
    """Precisions 0, 1/2, 2/3."""
    found = curve(0, 1, 1, objects=2)
    assert found.precision.tolist() == pytest.approx([0, 1 / 2, 2 / 3])
    assert found.average_precision_all_point() == pytest.approx(2 / 3)
    assert found.average_precision_11_point() == pytest.approx(2 / 3)


def test_what_is_never_found_counts_0_at_its_recalls() -> None:
    found = curve(1, objects=4)
    assert found.average_precision_all_point() == pytest.approx(1 / 4)
    assert found.average_precision_11_point() == pytest.approx(3 / 11)


def test_wrong_predictions_after_the_last_right_one_take_nothing_away() -> None:
    assert curve(1, 1, objects=2).average_precision_all_point() == 1
    assert curve(1, 1, 0, 0, objects=2).average_precision_all_point() == 1


def test_three_of_ten_fall_short_of_a_recall_of_0_3_as_in_the_published_code() -> None:
    assert curve(1, 1, 1, objects=10).average_precision_11_point() == pytest.approx(3 / 11)


def test_a_curve_without_predictions_has_no_area() -> None:
    none = PrecisionRecallCurve(np.empty(0, int), 3)
    assert (none.average_precision_all_point(), none.average_precision_11_point()) == (0, 0)


# --- whole -----------------------------------------------------------------------------------------------------------


def test_each_class_and_their_means() -> None:
    truth = truth_of((0, 0, BOX), (1, 0, BOX), (0, 1, FAR), (0, 2, BOX), ignored=(3,))
    predicted = predicted_of(
        ((0, 0, BOX), 0.9), ((0, 0, FAR), 0.8), ((1, 0, BOX), 0.7), ((0, 2, BOX), 0.9), ((0, 3, BOX), 1)
    )
    found = voc_scores(truth, predicted, ["cat", "dog", "cow", "owl"])
    assert {name: row["objects"] for name, row in found["per_class"].items()} == {"cat": 2, "dog": 1}
    cat = (0.5 + 0.5 * 2 / 3, (6 + 5 * 2 / 3) / 11)
    assert (found["per_class"]["cat"]["AP_all_point"], found["per_class"]["cat"]["AP_11_point"]) == pytest.approx(cat)
    assert (found["AP_all_point"], found["AP_11_point"]) == pytest.approx((cat[0] / 2, cat[1] / 2))


def test_a_wrong_box_costs_only_the_less_sure_ones() -> None:
    right, wrong = (0, 0, BOX), (0, 0, FAR)
    found = [
        voc_scores(truth_of(right), predicted_of((right, 0.5), (wrong, score)), ["cat"])["AP_all_point"]
        for score in (0.4, 0.6)
    ]
    assert found == [1, 0.5]


def test_a_box_on_a_difficult_object_costs_nothing() -> None:
    truth = truth_of((0, 0, BOX), (0, 0, FAR), ignored=(1,))
    found = voc_scores(truth, predicted_of(((0, 0, FAR), 0.9), ((0, 0, BOX), 0.5)), ["cat"])
    assert (found["AP_11_point"], found["AP_all_point"]) == pytest.approx((1, 1))


def test_a_class_that_is_not_predicted_counts_0() -> None:
    found = voc_scores(truth_of((0, 0, BOX), (0, 1, BOX)), predicted_of(((0, 0, BOX), 0.9)), ["cat", "dog"])
    assert found["AP_all_point"] == 0.5


def test_no_prediction_scores_0() -> None:
    found = voc_scores(truth_of((0, 0, BOX)), predicted_of(), ["cat"])
    assert (found["AP_11_point"], found["AP_all_point"]) == (0, 0)


@pytest.mark.parametrize("truth", [truth_of(), truth_of((0, 0, BOX), ignored=(0,))])
def test_a_truth_without_countable_boxes_has_no_figure(truth: TruthBoxes) -> None:
    found = voc_scores(truth, predicted_of(((0, 0, BOX), 0.9)), ["cat"])
    assert (found["AP_11_point"], found["AP_all_point"], found["per_class"]) == (None, None, {})


def test_comparing_in_blocks_finds_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(3)
    rows = [
        (int(i), int(c), tuple(b))
        for i, c, b in zip(rng.integers(0, 6, 80), rng.integers(0, 2, 80), rng.integers(1, 9, (80, 4)), strict=True)
    ]
    truth, predicted = truth_of(*rows[:40]), predicted_of(*((row, 0.5) for row in rows[40:]))
    whole = rank_matches(truth, predicted)
    monkeypatch.setattr("mining.evaluation.boxes._PAIRS_PER_BLOCK", 7)
    in_blocks = rank_matches(truth, predicted)
    assert whole.is_correct.any()
    for name in ("true_box", "iou", "is_correct"):
        np.testing.assert_array_equal(getattr(in_blocks, name), getattr(whole, name))


# --- the interval ----------------------------------------------------------------------------------------------------


def random_pictures(seed: int, images: int = 8) -> tuple[TruthBoxes, Detections]:
    rng = np.random.default_rng(seed)
    rows = [
        (int(rng.integers(images)), int(rng.integers(3)), tuple(rng.integers(1, 12, 4).tolist())) for _ in range(60)
    ]
    scores = rng.permutation(30) / 30
    ignored = tuple(np.flatnonzero(rng.random(30) < 0.2).tolist())
    guessed = [(rows[int(rng.integers(30))] if rng.random() < 0.6 else row) for row in rows[30:]]
    return truth_of(*rows[:30], ignored=ignored), predicted_of(*zip(guessed, scores.tolist(), strict=True))


def drawn(boxes: Any, times: np.ndarray) -> Any:
    """The boxes of images that are there so many times; the copies are images of their own."""
    copies = [(row, copy) for row in range(len(boxes)) for copy in range(times[boxes.image[row]])]
    rows = np.array([row for row, _ in copies], int)
    image = np.array([boxes.image[row] + 100 * copy for row, copy in copies], int)
    names = [name for name in boxes.__dataclass_fields__ if name != "image"]
    return type(boxes)(image=image, **{name: getattr(boxes, name)[rows] for name in names})


@given(seed=st.integers(0, 10_000))
@settings(max_examples=40, deadline=None)
def test_a_resample_scores_as_the_images_drawn_would(seed: int) -> None:
    truth, predicted = random_pictures(seed)
    times = np.random.default_rng(seed).integers(0, 3, 8)
    counts = iter([times_of_those_there(truth, predicted, times)])
    ours = resampled_average_precision(counts, truth, predicted, rank_matches(truth, predicted))
    expected = voc_scores(drawn(truth, times), drawn(predicted, times), "abc")["AP_all_point"]
    assert ours == [pytest.approx(expected or 0.0)]


def times_of_those_there(truth: TruthBoxes, predicted: Detections, times: np.ndarray) -> np.ndarray:
    return times[np.unique(np.concatenate([truth.image, predicted.image]))]


def test_the_interval_holds_the_value_and_is_the_same_again() -> None:
    truth, predicted = random_pictures(3, images=40)
    first, again = (voc_scores(truth, predicted, "abc", seed=2, resamples=300) for _ in range(2))
    low, high = first["AP_all_point_ci95"]
    assert low < first["AP_all_point"] < high
    assert first == again
    assert voc_scores(truth, predicted, "abc")["AP_all_point_ci95"] is None


def test_without_objects_there_is_no_interval() -> None:
    assert voc_scores(truth_of(), predicted_of(), "abc", resamples=10)["AP_all_point_ci95"] is None
