"""CorLoc on hand-made boxes whose values are known."""

import numpy as np
import pytest

from mining.evaluation import TruthBoxes
from mining.evaluation.bootstrap import bootstrap_corloc
from mining.evaluation.boxes import compute_overlaps
from mining.evaluation.metrics.corloc import (
    baseline_scores,
    corloc,
    corloc_scores,
    pair_results,
)
from tests.unit.evaluation.by_hand import predicted_of, truth_of

BOX = (0, 0, 10, 10)
FAR = (50, 50, 10, 10)


def test_perfect_boxes_score_1() -> None:
    rows = [(0, 0, BOX), (1, 0, FAR), (1, 1, BOX)]
    assert corloc(truth_of(*rows), predicted_of(*((row, 0.5) for row in rows)), iou_threshold=1.0) == 1


def test_no_prediction_scores_0() -> None:
    assert corloc(truth_of((0, 0, BOX)), predicted_of()) == 0


def test_no_countable_box_has_no_score() -> None:
    assert corloc(truth_of((0, 0, BOX), ignored=(0,)), predicted_of(((0, 0, BOX), 0.9))) is None


def test_only_the_best_scored_box_decides() -> None:
    good, bad = (0, 0, BOX), (0, 0, FAR)
    assert corloc(truth_of(good), predicted_of((good, 0.4), (bad, 0.5))) == 0
    assert corloc(truth_of(good), predicted_of((good, 0.5), (bad, 0.4))) == 1


def test_of_equal_scores_the_first_box_decides() -> None:
    good, bad = (0, 0, BOX), (0, 0, FAR)
    assert corloc(truth_of(good), predicted_of((good, 0.5), (bad, 0.5))) == 1
    assert corloc(truth_of(good), predicted_of((bad, 0.5), (good, 0.5))) == 0


def test_any_of_several_true_boxes_will_do() -> None:
    assert corloc(truth_of((0, 0, FAR), (0, 0, BOX)), predicted_of(((0, 0, BOX), 0.9))) == 1


def test_an_iou_of_exactly_the_threshold_is_a_hit() -> None:
    half = ((0, 0, (0, 0, 10, 5)), 0.9)
    assert corloc(truth_of((0, 0, BOX)), predicted_of(half), iou_threshold=0.5) == 1
    assert corloc(truth_of((0, 0, BOX)), predicted_of(half), iou_threshold=0.51) == 0


def test_a_box_of_another_class_is_no_hit() -> None:
    assert corloc(truth_of((0, 0, BOX)), predicted_of(((0, 1, BOX), 0.9))) == 0


def test_a_pair_of_difficult_boxes_only_is_not_counted() -> None:
    truth = truth_of((0, 0, BOX), (1, 0, BOX), ignored=(1,))
    assert corloc(truth, predicted_of(((0, 0, BOX), 0.9))) == 1


def test_a_hit_on_a_difficult_box_beside_a_countable_one_is_a_miss() -> None:
    truth = truth_of((0, 0, BOX), (0, 0, FAR), ignored=(1,))
    assert corloc(truth, predicted_of(((0, 0, FAR), 0.9))) == 0


def test_the_whole_record_of_a_known_case() -> None:
    truth = truth_of((0, 0, BOX), (0, 1, FAR), (1, 0, BOX), (1, 0, FAR), (2, 1, BOX))
    predicted = predicted_of(
        ((0, 0, BOX), 0.9),
        ((0, 1, BOX), 0.9),
        ((0, 1, FAR), 0.2),
        ((1, 0, (0, 0, 10, 6)), 0.5),
        ((3, 0, BOX), 0.5),
    )
    record = corloc_scores(
        truth, predicted, compute_overlaps(truth, predicted), ["cat", "dog", "cow"], images=4, seed=0, resamples=10
    )
    values = {name: record[name] for name in ("value", "pairs", "at_0.3", "at_0.7", "any_box", "boxes_per_pair")}
    assert values == {"value": 0.5, "pairs": 4, "at_0.3": 0.5, "at_0.7": 0.25, "any_box": 0.75, "boxes_per_pair": 1.0}
    assert record["instance_recall"] == pytest.approx(3 / 5)
    assert record["instance_recall_at_1_fp"] == pytest.approx(3 / 5)
    assert record["per_class"] == {"cat": {"value": 1.0, "pairs": 2}, "dog": {"value": 0.0, "pairs": 2}}
    assert record["macro"] == 0.5


def test_micro_weighs_pairs_and_macro_weighs_classes() -> None:
    rows = [(0, 0, BOX), (1, 0, BOX), (2, 0, BOX), (3, 1, BOX)]
    truth, predicted = truth_of(*rows), predicted_of(*((row, 0.5) for row in rows[:3]))
    record = corloc_scores(
        truth, predicted, compute_overlaps(truth, predicted), ["cat", "dog"], images=4, seed=0, resamples=0
    )
    assert (record["value"], record["macro"]) == (0.75, 0.5)


def test_a_difficult_box_is_no_instance_to_recall() -> None:
    truth, predicted = truth_of((0, 0, BOX), (0, 0, FAR), ignored=(1,)), predicted_of(((0, 0, BOX), 0.9))
    record = corloc_scores(truth, predicted, compute_overlaps(truth, predicted), ["cat"], images=1, seed=0, resamples=0)
    assert record["instance_recall"] == 1


def test_no_resample_gives_no_interval() -> None:
    pairs = pair_results(truth_of((0, 0, BOX)), predicted_of())
    assert bootstrap_corloc(np.array([True]), pairs, seed=0, resamples=0) == (None, None)


def test_the_whole_image_hits_what_fills_half_of_it() -> None:
    truth = truth_of((0, 0, (0, 0, 50, 50)), (1, 0, (0, 0, 60, 100)), (2, 0, (15, 15, 70, 70)))
    found = baseline_scores(truth, np.full((3, 2), 100.0))
    assert found == {"whole_image": pytest.approx(1 / 3), "centred_half_area": pytest.approx(1 / 3)}


def test_the_centred_box_has_half_the_area_of_the_image() -> None:
    side = 100 * np.sqrt(0.5)
    corner = (100 - side) / 2
    truth = truth_of((0, 0, (corner, corner, side, side)))
    assert baseline_scores(truth, np.array([[100.0, 100.0]]))["centred_half_area"] == 1


def test_baselines_leave_out_images_of_unknown_size() -> None:
    truth = truth_of((0, 0, (0, 0, 100, 100)), (1, 0, (0, 0, 100, 100)))
    sizes = np.array([[100.0, 100.0], [np.nan, np.nan]])
    assert baseline_scores(truth, sizes)["whole_image"] == 1
    assert baseline_scores(truth, sizes * np.nan)["whole_image"] is None


@pytest.fixture
def many() -> tuple[TruthBoxes, np.ndarray]:
    """400 pairs on 200 images, 2 classes an image, 60 % hits."""
    image = np.repeat(np.arange(200), 2)
    truth = TruthBoxes(image, np.tile([0, 1], 200), np.tile(np.array(BOX, float), (400, 1)))
    return truth, np.random.default_rng(5).random(400) < 0.6


def test_the_interval_has_the_width_that_theory_gives(many: tuple[TruthBoxes, np.ndarray]) -> None:
    truth, hit = many
    (low, high), _ = bootstrap_corloc(hit, pair_results(truth, predicted_of()), seed=1, resamples=2000)
    by_image = hit.reshape(200, 2).mean(axis=1)
    half_width = 1.96 * by_image.std(ddof=1) / np.sqrt(200)
    assert low == pytest.approx(hit.mean() - half_width, abs=0.01)
    assert high == pytest.approx(hit.mean() + half_width, abs=0.01)


def test_images_are_drawn_whole(many: tuple[TruthBoxes, np.ndarray]) -> None:
    truth, hit = many
    pairs = pair_results(truth, predicted_of())
    alike = np.repeat(hit[::2], 2)
    (low, high), _ = bootstrap_corloc(alike, pairs, seed=1, resamples=2000)
    spread = 2 * 1.96 * np.sqrt(alike.mean() * (1 - alike.mean()) / 200)
    assert high - low == pytest.approx(spread, rel=0.1)


def test_the_same_seed_gives_the_same_interval_and_another_another(many: tuple[TruthBoxes, np.ndarray]) -> None:
    truth, hit = many
    pairs = pair_results(truth, predicted_of())
    first, again, other = (bootstrap_corloc(hit, pairs, seed=s, resamples=50) for s in (1, 1, 2))
    assert first == again
    assert first != other


def test_a_class_that_is_always_found_pulls_the_macro_interval_up(many: tuple[TruthBoxes, np.ndarray]) -> None:
    truth, _ = many
    pairs = pair_results(truth, predicted_of())
    micro, macro = bootstrap_corloc(pairs.category == 0, pairs, seed=0, resamples=50)
    assert micro == macro == [0.5, 0.5]


def test_a_class_that_a_resample_lacks_is_left_out_of_its_macro_mean() -> None:
    pairs = pair_results(truth_of(*((i, i, BOX) for i in range(5))), predicted_of())
    assert bootstrap_corloc(np.ones(5, bool), pairs, seed=0, resamples=50) == ([1, 1], [1, 1])


def test_drawing_in_blocks_gives_as_many_resamples(
    many: tuple[TruthBoxes, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    truth, hit = many
    pairs = pair_results(truth, predicted_of())
    whole, _ = bootstrap_corloc(hit, pairs, seed=1, resamples=1000)
    monkeypatch.setattr("mining.evaluation.bootstrap._COUNTS_PER_BLOCK", 1200)
    in_blocks, _ = bootstrap_corloc(hit, pairs, seed=1, resamples=1000)
    assert in_blocks == pytest.approx(whole, abs=0.01)
