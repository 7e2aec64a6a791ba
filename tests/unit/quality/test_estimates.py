"""Estimates of precision: intervals cover the truth as often as they say, and are narrower with expectations."""

from collections.abc import Callable

import numpy as np
import pytest

from mining.quality.estimates import (
    Precision,
    Sample,
    estimate_per_class,
    estimate_precision,
    verdicts_for,
    verdicts_to_halve,
)
from mining.quality.sampling import draw_boxes, stratify
from tests.unit.quality.test_sampling import population

Mislead = Callable[[np.ndarray], np.ndarray]


def sample_of(score: np.ndarray, drawn: np.ndarray, verdicts: np.ndarray) -> Sample:
    """The verdicts on drawn boxes, with expectations that are the probabilities of `with_outcomes`."""
    return Sample(0.15 + 0.8 * score**1.5, drawn, verdicts)


def with_outcomes(boxes: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Classes, scores, and whether each box is correct: the more probable, the higher its score."""
    category, score = population(boxes, seed=seed)
    return category, score, np.random.default_rng(seed + 1).random(boxes) < 0.15 + 0.8 * score**1.5


def estimates(draws: int, repeats: int, boxes: int = 1500) -> tuple[list[Precision], float]:
    category, score, is_correct = with_outcomes(boxes)
    strata, random, found = stratify(category, score, draws), np.random.default_rng(9), []
    for _ in range(repeats):
        drawn = draw_boxes(strata, draws, random)
        one = estimate_precision(sample_of(score, drawn, is_correct[drawn]))
        assert one is not None
        found.append(one)
    return found, float(is_correct.mean())


@pytest.mark.parametrize("draws", [50, 100, 200])
def test_the_interval_covers_the_truth_in_95_percent_of_the_draws(draws: int) -> None:
    found, truth = estimates(draws, 400)
    covered = np.mean([one.ci95[0] <= truth <= one.ci95[1] for one in found])
    assert 0.92 <= covered <= 0.985
    assert np.mean([one.value for one in found]) == pytest.approx(truth, abs=0.006)


@pytest.mark.parametrize("mislead", [lambda score: 1 - score, lambda score: np.full(len(score), 0.97)])
def test_expectations_that_mislead_widen_the_interval_and_bias_nothing(mislead: Mislead) -> None:
    category, score, is_correct = with_outcomes(1500)
    strata, random, found, fair = stratify(category, score, 100), np.random.default_rng(7), [], []
    for _ in range(400):
        drawn = draw_boxes(strata, 100, random)
        one = estimate_precision(Sample(mislead(score), drawn, is_correct[drawn]))
        other = estimate_precision(sample_of(score, drawn, is_correct[drawn]))
        assert one is not None
        assert other is not None
        found.append(one)
        fair.append(other)
    truth = is_correct.mean()
    assert np.mean([one.value for one in found]) == pytest.approx(truth, abs=0.006)
    assert np.mean([one.ci95[0] <= truth <= one.ci95[1] for one in found]) >= 0.94
    assert np.mean([one.half_width for one in found]) > 1.1 * np.mean([one.half_width for one in fair])


def test_the_interval_of_a_class_with_ten_verdicts_is_right_about_as_often_as_it_says() -> None:
    category, score, is_correct = with_outcomes(1500)
    strata, random, covered = stratify(category, score, 60), np.random.default_rng(8), []
    for _ in range(400):
        drawn = draw_boxes(strata, 60, random)
        found = estimate_per_class(category, sample_of(score, drawn, is_correct[drawn]))
        for one in (1, 2):  # about 12 and 8 verdicts
            interval = found[one]
            assert interval is not None
            covered.append(interval.ci95[0] <= is_correct[category == one].mean() <= interval.ci95[1])
    assert 0.93 <= np.mean(covered) <= 0.975


def test_200_verdicts_are_worth_more_than_250_without_expectations() -> None:
    found, truth = estimates(200, 60)
    half = np.mean([one.half_width for one in found])
    assert half < 1.96 * np.sqrt(truth * (1 - truth) * (1 / 250 - 1 / 1500))


def test_whoever_looks_at_every_verdict_is_covered_throughout() -> None:
    category, score, is_correct = with_outcomes(1500)
    strata, random, covered = stratify(category, score, 200), np.random.default_rng(4), []
    for _ in range(60):
        drawn = draw_boxes(strata, 200, random)
        looks = [estimate_precision(sample_of(score, drawn[:n], is_correct[drawn[:n]])) for n in range(50, 201, 10)]
        intervals = [one.ci95_any_time for one in looks if one is not None and one.ci95_any_time is not None]
        assert len(intervals) == 16
        covered.append(all(low <= is_correct.mean() <= high for low, high in intervals))
    assert np.mean(covered) >= 0.9
    assert looks[0] is not None
    assert looks[0].ci95_any_time is not None
    assert looks[0].ci95_any_time[0] < looks[0].ci95[0]


def test_nothing_is_left_to_estimate_once_every_box_is_judged() -> None:
    _category, score, is_correct = with_outcomes(300)
    found = estimate_precision(sample_of(score, np.arange(300), is_correct))
    assert found is not None
    assert found.value == pytest.approx(is_correct.mean())
    assert found.ci95 == pytest.approx((found.value, found.value))


@pytest.mark.parametrize("outcome", [True, False])
def test_verdicts_that_are_all_the_same_leave_doubt(outcome: bool) -> None:
    category, score = population(500)
    drawn = draw_boxes(stratify(category, score, 20), 20, np.random.default_rng(0))
    found = estimate_precision(sample_of(score, drawn, np.full(20, outcome)))
    assert found is not None
    assert found.value == outcome
    low, high = found.ci95
    assert 0.1 < high - low < 0.25  # Wilson's interval of 20 of 20 is 0.161 wide
    assert (low if outcome else high) not in (0.0, 1.0)


@pytest.mark.parametrize("wrong", [0, 1, 2, 30])
def test_the_interval_that_is_valid_at_every_look_is_the_wider_one(wrong: int) -> None:
    category, score = population(500)
    drawn = draw_boxes(stratify(category, score, 60), 60, np.random.default_rng(0))
    found = estimate_precision(sample_of(score, drawn, np.arange(60) >= wrong))
    assert found is not None
    assert found.ci95_any_time is not None
    assert found.ci95_any_time[0] <= found.ci95[0]
    assert found.ci95[1] <= found.ci95_any_time[1]


def test_of_a_run_with_one_box_its_verdict_is_the_precision() -> None:
    found = estimate_precision(sample_of(np.array([0.3]), np.array([0]), np.array([True])))
    assert found is not None
    assert (found.value, found.ci95) == (1.0, (1.0, 1.0))


def test_a_single_verdict_is_no_estimate() -> None:
    _category, score = population(50)
    assert estimate_precision(sample_of(score, np.array([3]), np.array([True]))) is None
    assert estimate_precision(sample_of(score, np.zeros(0, np.int64), np.zeros(0, bool))) is None


def test_each_class_is_estimated_from_its_own_verdicts() -> None:
    category, score = population(600)
    is_correct = category == 0  # the others are all wrong
    drawn = draw_boxes(stratify(category, score, 120), 120, np.random.default_rng(0))
    found = estimate_per_class(category, sample_of(score, drawn, is_correct[drawn]))
    assert list(found) == list(range(6))
    assert found[0] is not None
    assert found[0].value == 1
    assert found[0].verdicts == (category[drawn] == 0).sum()
    assert found[0].boxes == (category == 0).sum()
    assert all(one is None or one.value == 0 for name, one in found.items() if name)


def test_the_number_of_verdicts_for_a_width() -> None:
    assert verdicts_for(0.03, 10**9) == 1068
    assert verdicts_for(0.03, 500) == 341  # of few boxes fewer are needed
    assert verdicts_for(0.03, 10) == 10
    found = Precision(0.5, (0.4, 0.6), None, 100, 10**6)
    assert verdicts_to_halve(found) == pytest.approx(300, abs=2)
    assert verdicts_to_halve(Precision(0.5, (0.4, 0.6), None, 90, 100)) < 10
