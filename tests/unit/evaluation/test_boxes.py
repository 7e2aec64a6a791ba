"""Overlaps of boxes given as arrays."""

import numpy as np
import pytest

import mining.evaluation.boxes as module
from mining.boxes.iou import iou_matrix
from mining.evaluation import Detections, TruthBoxes
from mining.evaluation.boxes import compute_overlaps


def test_iou_of_boxes_that_share_half_of_each_is_a_third() -> None:
    assert iou_matrix([[0, 0, 10, 10]], [[5, 0, 15, 10]])[0, 0] == pytest.approx(1 / 3)


def test_boxes_that_touch_at_an_edge_do_not_overlap() -> None:
    assert iou_matrix([[0, 0, 10, 10]], [[10, 0, 20, 10]])[0, 0] == 0


def test_a_side_is_the_difference_of_its_ends() -> None:
    # with the peers' +1 this would be 4 / 9
    assert iou_matrix([[0, 0, 1, 1]], [[0, 0, 2, 2]])[0, 0] == 0.25


def test_a_box_without_area_has_iou_0_even_with_itself() -> None:
    assert iou_matrix([[3, 3, 3, 3]], [[3, 3, 3, 3]])[0, 0] == 0


def test_no_boxes_give_an_empty_matrix() -> None:
    assert iou_matrix(np.empty((0, 4)), [[0, 0, 1, 1], [0, 0, 2, 2]]).shape == (0, 2)


def test_only_boxes_of_the_same_image_and_class_are_compared() -> None:
    box = [[0, 0, 10, 10]]
    truth = TruthBoxes(np.array([0]), np.array([0]), np.array(box))
    elsewhere = Detections(np.array([1, 0]), np.array([0, 1]), np.array(box * 2), np.ones(2))
    assert compute_overlaps(truth, elsewhere).prediction_iou.tolist() == [0, 0]


def test_comparing_in_blocks_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(3)
    xywh = rng.uniform(1, 30, (80, 4))
    truth = TruthBoxes(rng.integers(0, 4, 80), rng.integers(0, 3, 80), xywh, is_ignored=rng.random(80) < 0.2)
    predicted = Detections(rng.integers(0, 4, 90), rng.integers(0, 3, 90), rng.uniform(1, 30, (90, 4)), np.ones(90))
    whole = compute_overlaps(truth, predicted)
    monkeypatch.setattr(module, "_PAIRS_PER_BLOCK", 7)
    in_blocks = compute_overlaps(truth, predicted)
    for name in ("prediction_iou", "prediction_ignored", "truth_iou"):
        np.testing.assert_array_equal(getattr(in_blocks, name), getattr(whole, name))


def test_overlaps_are_those_of_the_matrix() -> None:
    rng = np.random.default_rng(4)
    truth = TruthBoxes(np.zeros(6), np.zeros(6), rng.uniform(1, 30, (6, 4)))
    predicted = Detections(np.zeros(9), np.zeros(9), rng.uniform(1, 30, (9, 4)), np.ones(9))
    matrix = iou_matrix(predicted.xyxy, truth.xyxy)
    found = compute_overlaps(truth, predicted)
    np.testing.assert_allclose(found.prediction_iou, matrix.max(axis=1))
    np.testing.assert_allclose(found.truth_iou, matrix.max(axis=0))


def test_columns_of_unequal_length_are_refused() -> None:
    with pytest.raises(ValueError, match="scores has 1 rows, image has 2"):
        Detections(np.zeros(2), np.zeros(2), np.zeros((2, 4)), np.zeros(1))


def test_every_crowd_is_ignored() -> None:
    truth = TruthBoxes(np.zeros(2), np.zeros(2), np.ones((2, 4)), is_crowd=np.array([True, False]))
    assert truth.is_countable.tolist() == [False, True]
