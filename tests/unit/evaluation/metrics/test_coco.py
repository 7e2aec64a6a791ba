"""COCO's figures on hand-made boxes, and compared with pycocotools."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools.cocoeval import Params

from mining.evaluation import Detections, TruthBoxes, coco_scores
from mining.evaluation.metrics.coco import AREAS, IOU_THRESHOLDS, MAX_DETECTIONS, NUMBERS, RECALLS
from mining.evaluation.metrics.pycocotools_engine import pycocotools_scores

BOX, FAR = (0, 0, 40, 40), (200, 200, 40, 40)


def boxes(rows: list[tuple[int, int, tuple]], **flags: list[bool]) -> TruthBoxes:
    columns = {name: np.array(values) for name, values in flags.items()}
    return TruthBoxes(np.array([r[0] for r in rows]), np.array([r[1] for r in rows]), [r[2] for r in rows], **columns)


def found(rows: list[tuple[int, int, tuple, float]]) -> Detections:
    image, category, xywh, scores = zip(*rows, strict=True) if rows else ([], [], np.empty((0, 4)), [])
    return Detections(np.array(image, int), np.array(category, int), np.array(xywh, float), np.array(scores, float))


def test_perfect_boxes_score_1() -> None:
    scores = coco_scores(boxes([(0, 0, BOX), (1, 1, FAR)]), found([(0, 0, BOX, 0.9), (1, 1, FAR, 0.8)]), ["a", "b"])
    assert (scores["AP"], scores["AP50"], scores["AR100"]) == (pytest.approx(1), pytest.approx(1), 1)
    assert scores["per_class_AP50"] == {"a": pytest.approx(1), "b": pytest.approx(1)}


def test_no_prediction_scores_0() -> None:
    scores = coco_scores(boxes([(0, 0, BOX)]), found([]), ["a"])
    assert (scores["AP"], scores["AP50"], scores["AR1"]) == (0, 0, 0)


def test_sizes_that_the_truth_lacks_have_no_number() -> None:
    scores = coco_scores(boxes([(0, 0, BOX)]), found([]), ["a"])
    assert (scores["APs"], scores["APm"], scores["APl"]) == (None, 0, None)


def test_a_truth_without_boxes_has_no_numbers() -> None:
    scores = coco_scores(boxes([]), found([(0, 0, BOX, 0.9)]), ["a"])
    assert {scores[name] for name in NUMBERS} == {None}


@pytest.mark.parametrize("prediction", [[], [(0, 0, FAR, 0.95)]])
def test_an_ignored_box_counts_neither_when_found_nor_when_not(prediction: list) -> None:
    truth = boxes([(0, 0, BOX), (0, 0, FAR)], is_ignored=[False, True])
    assert coco_scores(truth, found([(0, 0, BOX, 0.5), *prediction]), ["a"])["AP"] == pytest.approx(1)


def test_a_countable_box_that_is_not_found_does_count() -> None:
    truth = boxes([(0, 0, BOX), (0, 0, FAR)])
    assert coco_scores(truth, found([(0, 0, BOX, 0.5)]), ["a"])["AR100"] == 0.5


def test_inside_a_crowd_is_enough_and_inside_a_difficult_box_is_not() -> None:
    truth_rows, inside = [(0, 0, BOX), (0, 0, (200, 200, 90, 90))], (0, 0, (210, 210, 10, 10), 0.95)
    prediction = found([(0, 0, BOX, 0.5), inside])
    crowd = coco_scores(boxes(truth_rows, is_crowd=[False, True]), prediction, ["a"])
    difficult = coco_scores(boxes(truth_rows, is_ignored=[False, True]), prediction, ["a"])
    assert (crowd["AP50"], difficult["AP50"]) == (pytest.approx(1), pytest.approx(0.5))


def test_the_stated_area_decides_the_size_range() -> None:
    truth = TruthBoxes(np.array([0]), np.array([0]), np.array([BOX]), area=np.array([500.0]))
    scores = coco_scores(truth, found([(0, 0, BOX, 0.9)]), ["a"])
    assert (scores["APs"], scores["APm"]) == (pytest.approx(1), None)


def test_nothing_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    coco_scores(boxes([(0, 0, BOX)]), found([(0, 0, BOX, 0.9)]), ["a"])
    assert capsys.readouterr().out == ""


# --- against pycocotools ---------------------------------------------------------------------------------------------


@given(seed=st.integers(0, 100_000), grid=st.booleans(), told_area=st.booleans())
@settings(max_examples=60, deadline=None)
def test_the_figures_equal_those_of_pycocotools_bit_for_bit(seed: int, grid: bool, told_area: bool) -> None:
    rng = np.random.default_rng(seed)
    predictions, true_boxes = rng.integers(0, 150), rng.integers(0, 60)

    def drawn(count: int) -> np.ndarray:
        xywh = np.concatenate([rng.integers(0, 60, (count, 2)), rng.integers(1, 120, (count, 2))], axis=1)
        return xywh + (0.0 if grid else rng.random((count, 4)))

    truth = TruthBoxes(
        rng.integers(0, 4, true_boxes), rng.integers(0, 3, true_boxes), drawn(true_boxes),
        is_ignored=rng.random(true_boxes) < 0.2, is_crowd=rng.random(true_boxes) < 0.15,
        area=rng.uniform(10, 20_000, true_boxes) if told_area else np.empty(0),
    )  # fmt: skip
    xywh = drawn(predictions)
    if true_boxes:
        near = predictions // 2
        xywh[:near] = truth.xywh[rng.integers(0, true_boxes, near)] + rng.integers(-5, 6, (near, 4))
        xywh[:, 2:] = np.maximum(xywh[:, 2:], 1)
    image, category = rng.integers(0, 4, predictions), rng.integers(0, 3, predictions)
    predicted = Detections(image, category, xywh, np.round(rng.random(predictions), 1))
    assert coco_scores(truth, predicted, "abc") == pycocotools_scores(truth, predicted, "abc")


def test_beyond_a_hundred_boxes_an_image_and_class_none_counts() -> None:
    rng = np.random.default_rng(4)
    truth = boxes([(0, 0, (x, 0, 10, 10)) for x in range(0, 1500, 10)])
    predicted = found(
        [(0, 0, (x, 0, 10, 10), score) for x, score in zip(range(0, 1500, 10), rng.random(150), strict=True)]
    )
    scores = coco_scores(truth, predicted, ["a"])
    assert scores == pycocotools_scores(truth, predicted, ["a"])
    assert scores["AR100"] == pytest.approx(100 / 150)


def test_thresholds_recalls_and_areas_are_those_of_pycocotools() -> None:
    params = Params(iouType="bbox")
    assert IOU_THRESHOLDS.tolist() == params.iouThrs.tolist()
    assert RECALLS.tolist() == params.recThrs.tolist()
    assert [list(area) for area in AREAS.values()] == params.areaRng
    assert max(params.maxDets) == MAX_DETECTIONS
