"""The precision of boxes of several runs: weighted by their boxes, with an interval that covers the truth."""

import numpy as np
import pytest

from mining.quality.combined import CombinedPrecision, RunPrecision, combine_runs
from mining.quality.estimates import Precision, Sample, estimate_precision
from mining.quality.sampling import draw_boxes, stratify
from tests.unit.quality.test_sampling import population


def judged(value: float, low: float, high: float, boxes: int = 100, pending: int = 0) -> RunPrecision:
    """A run with 50 verdicts."""
    return RunPrecision(boxes, Precision(value, (low, high), (low - 0.1, high + 0.1), 50, boxes), pending)


def test_of_one_run_it_is_the_run_s_own_estimate() -> None:
    assert combine_runs([judged(0.9, 0.8, 0.94)]) == CombinedPrecision(
        pytest.approx(0.9), pytest.approx((0.8, 0.94)), 50, 100, 0
    )


def test_runs_count_by_their_boxes_and_not_by_their_verdicts() -> None:
    found = combine_runs([judged(0.9, 0.8, 0.95, boxes=900), judged(0.4, 0.3, 0.5, boxes=100)])
    assert found.value == pytest.approx(0.85)
    assert found.ci95[0] == pytest.approx(0.85 - np.hypot(0.9 * 0.1, 0.1 * 0.1))
    assert found.ci95[1] == pytest.approx(0.85 + np.hypot(0.9 * 0.05, 0.1 * 0.1))
    assert (found.verdicts, found.boxes) == (100, 1000)


def test_the_interval_of_a_run_with_boxes_to_judge_is_the_one_that_is_valid_at_every_look() -> None:
    assert combine_runs([judged(0.8, 0.7, 0.85, pending=1)]).ci95 == pytest.approx((0.6, 0.95))


def test_boxes_of_a_run_without_verdicts_may_all_be_wrong_or_correct() -> None:
    found = combine_runs([judged(0.9, 0.8, 0.95, boxes=900), RunPrecision(100, None)])
    assert found.value == pytest.approx(0.9)
    assert found.ci95 == pytest.approx((0.72, 0.9 * 0.95 + 0.1))
    assert found.unknown == 100
    few = RunPrecision(100, Precision(1.0, (0.9, 1.0), None, 10, 100), pending=30)
    assert combine_runs([judged(0.9, 0.8, 0.95, boxes=900), few]).ci95[0] == pytest.approx(0.72)


def test_without_verdicts_nothing_is_known() -> None:
    assert combine_runs([RunPrecision(10, None)]) == CombinedPrecision(None, (0.0, 1.0), 0, 10, 10)
    assert combine_runs([]) == combine_runs([RunPrecision(0, None)]) == CombinedPrecision(None, (0.0, 1.0), 0, 0, 0)


MIXTURES = [
    [(2000, 0.9, 80), (600, 0.6, 40)],
    [(3000, 0.85, 100), (300, 0.5, 20), (60, 0.95, 15)],
    [(400, 0.97, 40), (400, 0.97, 40), (400, 0.97, 40)],
    [(1000, 0.8, 20), (1000, 0.3, 20)],
    [(500, 0.99, 60), (30, 0.2, 5)],
]


@pytest.mark.parametrize("runs", MIXTURES)
def test_the_lower_end_is_below_the_truth_in_97_5_percent_of_the_draws(runs: list[tuple[int, float, int]]) -> None:
    """Runs of other size, precision and sampling rate; each is drawn from by itself."""
    random = np.random.default_rng(3)
    populations = []
    for number, (boxes, share, draws) in enumerate(runs):
        category, score = population(boxes, seed=number)
        chance = np.clip(share + 0.3 * min(share, 1 - share) * (2 * score - 1), 0, 1)
        is_correct = random.random(boxes) < chance
        populations.append((chance, is_correct, stratify(category, score, draws), draws))
    truth = np.concatenate([is_correct for _, is_correct, _, _ in populations]).mean()
    lows, values = [], []
    for _ in range(400):
        parts = []
        for chance, is_correct, strata, draws in populations:
            drawn = draw_boxes(strata, draws, random)
            sample = Sample(chance, drawn, is_correct[drawn])
            parts.append(RunPrecision(len(chance), estimate_precision(sample)))
        found = combine_runs(parts)
        assert found.value is not None
        lows.append(found.ci95[0])
        values.append(found.value)
    # 400 draws of 97.5 % are below 95.5 % once in a hundred
    assert np.mean(np.array(lows) <= truth) >= 0.955
    assert np.mean(values) == pytest.approx(truth, abs=0.01)
