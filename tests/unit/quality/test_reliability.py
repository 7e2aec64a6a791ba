"""Calibration errors, by hand."""

import math

import numpy as np
import pytest

from mining.quality.reliability import (
    calibration_error,
    error_by_chance,
    localization_error,
    ranking_accuracy,
    reliability_bins,
)


def test_ece_weighs_the_gap_of_each_bin_by_its_boxes() -> None:
    predicted = np.array([0.91, 0.93, 0.95, 0.15])
    observed = np.array([1.0, 0.0, 1.0, 1.0])
    assert calibration_error(predicted, observed) == pytest.approx(abs(2.79 - 2) / 4 + 0.85 / 4)


def test_a_reliability_diagram_lists_the_bins_that_hold_boxes() -> None:
    bins = reliability_bins(np.array([0.0, 0.05, 1.0]), np.array([0.0, 1.0, 1.0]))
    assert [(one["low"], one["high"], one["boxes"]) for one in bins] == [(0.0, 0.1, 2), (0.9, 1.0, 1)]
    assert bins[0]["predicted"] == pytest.approx(0.025)
    assert bins[0]["observed"] == pytest.approx(0.5)


def test_the_error_by_chance_is_what_perfect_probabilities_have() -> None:
    rng = np.random.default_rng(0)
    predicted = rng.random(300)
    errors = [calibration_error(predicted, (rng.random(300) < predicted).astype(float)) for _ in range(300)]
    assert error_by_chance(predicted) == pytest.approx(np.mean(errors), abs=0.003)
    assert error_by_chance(np.tile(predicted, 100)) < error_by_chance(predicted) / 5


def test_laece_is_the_mean_over_classes() -> None:
    expected, iou = np.array([0.5, 0.5, 0.9]), np.array([0.7, 0.5, 0.4])
    assert localization_error(expected, iou, np.array([0, 0, 1])) == pytest.approx((0.1 + 0.5) / 2)


def test_nothing_can_be_said_of_no_boxes() -> None:
    none = np.empty(0)
    assert math.isnan(calibration_error(none, none))
    assert math.isnan(error_by_chance(none))
    assert math.isnan(localization_error(none, none, np.empty(0, np.int64)))


def test_auroc_is_the_chance_that_a_right_box_ranks_higher() -> None:
    assert ranking_accuracy(np.array([0.1, 0.6, 0.4, 0.9]), np.array([False, False, True, True])) == 0.75
    assert ranking_accuracy(np.array([0.1, 0.6]), np.array([True, True])) is None
