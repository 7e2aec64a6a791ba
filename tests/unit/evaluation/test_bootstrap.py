"""Paired bootstrap comparison of two runs on the same images."""

import numpy as np
import pytest

from mining.evaluation.bootstrap import bias_corrected_interval, paired_difference


def test_the_difference_is_the_mean_over_pairs() -> None:
    image = np.array([0, 0, 1, 2])
    found = paired_difference(image, np.array([0.0, 1.0, 0.0, 1.0]), np.array([1.0, 1.0, 1.0, 1.0]))
    assert found.value == pytest.approx(0.5)
    assert found.ci95[0] <= 0.5 <= found.ci95[1]


def test_equal_verdicts_differ_by_nothing_and_unclearly() -> None:
    verdicts = np.array([1.0, 0.0, 1.0])
    found = paired_difference(np.arange(3), verdicts, verdicts)
    assert (found.value, found.ci95, found.is_clear) == (0.0, (0.0, 0.0), False)


def test_a_gain_on_most_images_is_clear_and_a_loss_is_too() -> None:
    image, worse, better = np.arange(100), np.zeros(100), np.repeat([1.0, 0.0], [60, 40])
    assert paired_difference(image, worse, better).ci95[0] > 0.4
    assert paired_difference(image, better, worse).ci95[1] < -0.4
    assert paired_difference(image, better, worse).is_clear


def test_a_few_gains_and_losses_are_not_clear() -> None:
    first = np.repeat([1.0, 0.0], [52, 48])
    assert not paired_difference(np.arange(100), first, first[::-1]).is_clear


def test_pairs_of_one_image_count_as_one_draw() -> None:
    verdicts = np.repeat([1.0, 0.0], 50)
    alone = paired_difference(np.arange(100), np.zeros(100), verdicts)
    together = paired_difference(np.repeat(np.arange(4), 25), np.zeros(100), verdicts)
    assert together.ci95[1] - together.ci95[0] > 3 * (alone.ci95[1] - alone.ci95[0])


def test_the_interval_covers_the_true_difference_nineteen_times_in_twenty() -> None:
    rng, covered = np.random.default_rng(1), 0
    for _ in range(200):
        first, second = rng.random(80) < 0.4, rng.random(80) < 0.5
        found = paired_difference(np.arange(80), first.astype(float), second.astype(float), resamples=400)
        covered += found.ci95[0] <= 0.1 <= found.ci95[1]
    assert 180 <= covered <= 198


def test_an_interval_is_moved_down_by_twice_the_bias_of_its_resamples() -> None:
    resampled = np.linspace(0.5, 0.7, 401)
    assert bias_corrected_interval(resampled, 0.6) == pytest.approx([0.505, 0.695])
    assert bias_corrected_interval(resampled, 0.58) == pytest.approx([0.465, 0.655])
    assert bias_corrected_interval(resampled, 0.62) == pytest.approx([0.545, 0.735])


def test_a_corrected_interval_contains_the_value_and_stays_in_its_range() -> None:
    resampled = np.linspace(0.5, 0.7, 401)
    assert bias_corrected_interval(resampled, 0.4) == pytest.approx([0.105, 0.4])
    assert bias_corrected_interval(resampled, 0.95, within=(0, 1)) == [0.95, 1]
