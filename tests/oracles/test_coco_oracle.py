"""Our COCO figures against pycocotools, run separately on the same 200 images, and VOC's against another package's.

That peer counts sides with 1 added, wants an IoU above the threshold, and sorts predictions of equal scores, of which
there are many here, in no order one could rely on: its figures must lie between those of the best and the worst order.
"""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mining.evaluation import Detections, GroundTruth, TruthBoxes, coco_scores, read_ground_truth
from mining.evaluation.metrics.coco import (
    AREAS,
    IOU_THRESHOLDS,
    NUMBERS,
    RECALLS,
    match_detections,
    max_recall,
    overlap_of,
    precision_at_recalls,
)
from mining.evaluation.metrics.voc import (
    PrecisionRecallCurve,
    RankedMatches,
    precision_recall_curves,
    rank_matches,
    voc_scores,
)
from tests.oracles.protocols.plus_one import extend_by_one_pixel


@pytest.fixture(scope="module")
def folder(oracle: Callable[[str], Path]) -> Path:
    return oracle("coco")


@pytest.fixture(scope="module")
def truth(folder: Path) -> GroundTruth:
    return read_ground_truth(folder / "gt.json")


@pytest.fixture(scope="module")
def peer(folder: Path) -> dict:
    return json.loads((folder / "cocoeval.json").read_text())


@pytest.fixture(scope="module")
def detections(folder: Path, truth: GroundTruth) -> Detections:
    listing = json.loads((folder / "gt.json").read_text())
    names = {image["id"]: image["file_name"] for image in listing["images"]}
    classes = {category["id"]: category["name"] for category in listing["categories"]}
    found = json.loads((folder / "dets.json").read_text())
    return Detections(
        image=np.array([truth.file_names.index(names[row["image_id"]]) for row in found]),
        category=np.array([truth.classes.index(classes[row["category_id"]]) for row in found]),
        xywh=np.array([row["bbox"] for row in found]),
        scores=np.array([row["score"] for row in found]),
    )


def test_the_truth_of_the_oracle_is_read_whole(truth: GroundTruth) -> None:
    assert (len(truth.file_names), len(truth.boxes), truth.boxes.is_crowd.sum()) == (200, 669, 16)
    assert truth.notes == ()


@pytest.mark.parametrize("number", NUMBERS)
def test_each_of_the_twelve_numbers_is_the_peers(
    number: str, truth: GroundTruth, detections: Detections, peer: dict
) -> None:
    ours = coco_scores(truth.boxes, detections, truth.classes)
    assert ours[number] == pytest.approx(peer["coco12"][number], abs=1e-9)


def test_ap50_of_each_class_is_the_peers(folder: Path, truth: GroundTruth, detections: Detections, peer: dict) -> None:
    ours = coco_scores(truth.boxes, detections, truth.classes)["per_class_AP50"]
    ids = {c["name"]: str(c["id"]) for c in json.loads((folder / "gt.json").read_text())["categories"]}
    assert ours == {name: pytest.approx(peer["per_category"][ids[name]]["AP50"], abs=1e-9) for name in ids}


def test_without_classes_the_twelve_numbers_are_the_peers(
    truth: GroundTruth, detections: Detections, peer: dict
) -> None:
    boxes = replace(truth.boxes, category=0 * truth.boxes.category)
    ours = coco_scores(boxes, replace(detections, category=0 * detections.category), ["any"])
    expected = peer["class_agnostic_useCats0"]
    assert [ours[name] for name in NUMBERS] == pytest.approx([expected[name] for name in NUMBERS], abs=1e-9)


def test_precision_and_recall_are_the_peers_at_every_threshold(
    folder: Path, truth: GroundTruth, detections: Detections
) -> None:
    peer = np.load(folder / "cocoeval_arrays.npz")
    listed = sorted((c["id"], c["name"]) for c in json.loads((folder / "gt.json").read_text())["categories"])
    found, most = match_detections(truth.boxes, detections), (1, 10, 100)
    assert IOU_THRESHOLDS.tolist() == peer["iou_thrs"].tolist()
    assert RECALLS.tolist() == peer["rec_thrs"].tolist()
    for k, (_, name) in enumerate(listed):
        category = truth.classes.index(name)
        for m, boxes in enumerate(most):
            ours = precision_at_recalls(found, category, "all", boxes)
            np.testing.assert_allclose(ours, peer["precision"][:, :, k, m], rtol=0, atol=1e-12)
            for a, area in enumerate(AREAS):
                recall = max_recall(found, category, area, boxes)
                np.testing.assert_allclose(recall, peer["recall"][:, k, a, m], rtol=0, atol=1e-12)


def test_the_overlap_of_each_two_boxes_is_the_peers(folder: Path) -> None:
    peer = np.load(folder / "mask_iou.npz")
    ours = [
        [overlap_of(box, true_box, crowd) for true_box, crowd in zip(peer["gt_xywh"], peer["iscrowd"], strict=True)]
        for box in peer["dt_xywh"]
    ]
    np.testing.assert_allclose(ours, peer["iou_dt_by_gt"], rtol=0, atol=1e-15)


# --- VOC -------------------------------------------------------------------------------------------------------------


def of_equal_scores_the_right_first(boxes: TruthBoxes, predicted: Detections, sign: int) -> Detections:
    """With sign -1, last."""
    right = rank_matches(boxes, predicted, rule="above").is_correct
    return replace(predicted, scores=predicted.scores + sign * 1e-9 * right)


def with_crowds_found_any_number_of_times(boxes: TruthBoxes, found: RankedMatches) -> RankedMatches:
    """The peer's rule where crowds are objects: the first prediction on one is right, the others do not count."""
    on_crowd = (found.iou > 0.5) & np.append(boxes.is_crowd, False)[found.true_box]
    return replace(found, is_ignored=on_crowd & ~found.is_correct)


def curves_by_the_peers_rules(
    truth: GroundTruth, predicted: Detections, sign: int, *, crowds: bool
) -> dict[str, PrecisionRecallCurve]:
    boxes = extend_by_one_pixel(truth.boxes)
    objects = TruthBoxes(boxes.image, boxes.category, boxes.xywh) if crowds else boxes.where(~boxes.is_crowd)
    settled = of_equal_scores_the_right_first(objects, extend_by_one_pixel(predicted), sign)
    found = rank_matches(objects, settled, rule="above")
    if crowds:
        found = with_crowds_found_any_number_of_times(boxes, found)
    return {truth.classes[one]: curve for one, curve in precision_recall_curves(objects, settled, found).items()}


@pytest.mark.parametrize(("key", "crowds"), [("voc_mAP50_crowd_rows_removed", False), ("voc_mAP50", True)])
def test_vocs_average_precision_of_each_class_is_the_peers(
    key: str, crowds: bool, folder: Path, truth: GroundTruth, detections: Detections, peer: dict
) -> None:
    worst, best = (curves_by_the_peers_rules(truth, detections, sign, crowds=crowds) for sign in (-1, 1))
    ids = {c["name"]: str(c["id"]) for c in json.loads((folder / "gt.json").read_text())["categories"]}
    float32 = 1e-6  # of the peer's figures
    for name, figure in (
        ("voc07_11pt_AP", PrecisionRecallCurve.average_precision_11_point),
        ("voc_allpoint_AP", PrecisionRecallCurve.average_precision_all_point),
    ):
        for one in truth.classes:
            lowest, highest = figure(worst[one]), figure(best[one])
            assert lowest - float32 <= peer[key][name][ids[one]] <= highest + float32, (name, one)
            assert highest - lowest < 0.003


def test_vocs_means_are_those_of_its_classes(truth: GroundTruth, detections: Detections, peer: dict) -> None:
    boxes = extend_by_one_pixel(truth.boxes.where(~truth.boxes.is_crowd))
    found = voc_scores(boxes, extend_by_one_pixel(detections), truth.classes, rule="above")
    expected = peer["voc_mAP50_crowd_rows_removed"]
    assert found["AP_11_point"] == pytest.approx(expected["voc07_11pt_mAP"], abs=0.001)
    assert found["AP_all_point"] == pytest.approx(expected["voc_allpoint_mAP"], abs=0.001)
