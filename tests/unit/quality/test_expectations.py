"""Expected outcomes: learnt from the score alone with few verdicts, from all signals with many."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from sklearn.metrics import roc_auc_score

from mining.quality.audit import judged_boxes
from mining.quality.correctness import calibrate_run
from mining.quality.estimates import estimate_precision
from mining.quality.expectations import expected_outcomes, takes_signals
from mining.quality.recording import record_verdicts
from mining.quality.table import read_boxes_with_quality
from mining.runs.run import Run
from tests.unit.quality.small_run import generated_run
from tests.unit.quality.test_audit import fill, planned


@pytest.fixture(scope="module")
def boxes(tmp_path_factory: pytest.TempPathFactory) -> tuple[pa.Table, list[str], np.ndarray]:
    run, correct = generated_run(tmp_path_factory.mktemp("runs") / "run")
    table = read_boxes_with_quality(run.write())
    return table, table["file_name"].to_pylist(), correct


def drawn(boxes: int, of: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).choice(of, boxes, replace=False)


def test_few_verdicts_give_a_probability_that_grows_with_the_score(boxes) -> None:
    table, images, correct = boxes
    judged = drawn(30, len(table))
    only_score = table.select(["score"])
    found = expected_outcomes(only_score, images, judged, correct[judged])
    order = np.argsort(table["score"].to_numpy())
    assert (np.diff(found[order]) >= 0).all()
    assert found[judged].mean() == pytest.approx(correct[judged].mean(), abs=0.05)


def test_many_verdicts_rank_the_other_boxes_better_than_the_score(boxes) -> None:
    table, images, correct = boxes
    judged = drawn(100, len(table))
    found = expected_outcomes(table, images, judged, correct[judged])
    others = np.setdiff1d(np.arange(len(table)), judged)
    score = table["score"].to_numpy()
    assert roc_auc_score(correct[others], found[others]) > roc_auc_score(correct[others], score[others]) + 0.03
    assert ((found > 0) & (found < 1)).all()


@pytest.mark.parametrize("outcome", [True, False])
def test_verdicts_that_are_all_the_same_are_expected_of_all_boxes(boxes, outcome: bool) -> None:
    table, images, _ = boxes
    for verdicts in (20, 80):
        judged = drawn(verdicts, len(table))
        found = expected_outcomes(table, images, judged, np.full(verdicts, outcome))
        assert (np.abs(found - outcome) < 0.3).all()


def test_signals_count_from_50_verdicts_on_10_images_on() -> None:
    images = [f"{row % 20}.jpg" for row in range(200)]
    assert takes_signals(images, np.arange(50))
    assert not takes_signals(images, np.arange(49))
    assert not takes_signals(["one.jpg"] * 200, np.arange(60))


def test_without_a_verdict_there_is_an_expectation_too(boxes) -> None:
    table, images, _ = boxes
    found = expected_outcomes(table, images, np.zeros(0, np.int64), np.zeros(0, bool))
    assert found == pytest.approx(np.full(len(table), 0.5))


def test_a_calibration_from_the_same_verdicts_does_not_change_the_estimate(tmp_path: Path) -> None:
    small, correct = generated_run(tmp_path / "run")
    run: Run = small.write()
    ids = run.read_annotations(["annotation_id"])["annotation_id"].to_pylist()
    truth = dict(zip(ids, correct.tolist(), strict=True))
    plan = planned(run.path, verdicts=100)
    record_verdicts(
        run.path, fill(plan, lambda row: "correct" if truth[int(row["annotation_id"])] else "nothing"), "Ada"
    )
    before = judged_boxes(run.path)
    found = estimate_precision(before.sample)
    assert found is not None
    assert found.ci95[0] <= correct.mean() <= found.ci95[1]
    assert found.half_width < 1.9 * np.sqrt(found.value * (1 - found.value) * (1 / 100 - 1 / 240))
    assert calibrate_run(run).is_calibrated
    assert estimate_precision(judged_boxes(run.path).sample) == found
