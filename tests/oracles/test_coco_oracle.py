"""Our COCO figures against pycocotools, run separately on the same images, and VOC's against another package's.

pycocotools visits images and, without classes, the boxes of an image by rising id of image and category; boxes of equal
scores are ranked in that order. VOC's peer counts sides with 1 added, wants an IoU above the threshold, and sorts predictions of equal scores, of which
there are many here, in no order one could rely on: its figures must lie between those of the best and the worst order.
"""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

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

Rows = TypeVar("Rows", TruthBoxes, Detections)


@pytest.fixture(scope="module")
def folder(oracle: Callable[[str], Path]) -> Path:
    return oracle("coco")


@pytest.fixture(scope="module")
def listing(folder: Path) -> dict:
    """gt.json as it is."""
    return json.loads((folder / "gt.json").read_text())


@pytest.fixture(scope="module")
def truth(folder: Path, listing: dict) -> GroundTruth:
    """The ground truth as boxmine reads it, its images and classes by rising id, as the peer orders them."""
    read = read_ground_truth(folder / "gt.json")
    images = [read.file_names.index(one["file_name"]) for one in in_order_of_id(listing["images"])]
    classes = [read.classes.index(one["name"]) for one in in_order_of_id(listing["categories"])]
    return read.subset(np.array(images), np.array(classes))


@pytest.fixture(scope="module")
def peer(folder: Path) -> dict:
    return json.loads((folder / "cocoeval.json").read_text())


@pytest.fixture(scope="module")
def detections(folder: Path, listing: dict) -> Detections:
    image, category = (
        {one["id"]: place for place, one in enumerate(in_order_of_id(listing[name]))}
        for name in ("images", "categories")
    )
    found = json.loads((folder / "dets.json").read_text())
    return Detections(
        image=np.array([image[row["image_id"]] for row in found]),
        category=np.array([category[row["category_id"]] for row in found]),
        xywh=np.array([row["bbox"] for row in found]),
        scores=np.array([row["score"] for row in found]),
    )


def in_order_of_id(entries: list[dict]) -> list[dict]:
    return sorted(entries, key=lambda entry: entry["id"])


def test_the_truth_of_the_oracle_is_read_whole(truth: GroundTruth, listing: dict) -> None:
    crowds = sum(annotation["iscrowd"] for annotation in listing["annotations"])
    assert len(truth.file_names) == len(listing["images"])
    assert (len(truth.boxes), truth.boxes.is_crowd.sum()) == (len(listing["annotations"]), crowds)
    assert truth.notes == ()


@pytest.mark.parametrize("number", NUMBERS)
def test_each_of_the_twelve_numbers_is_the_peers(
    number: str, truth: GroundTruth, detections: Detections, peer: dict
) -> None:
    ours = coco_scores(truth.boxes, detections, truth.classes)
    assert ours[number] == pytest.approx(peer["coco12"][number], abs=1e-12)


def test_ap50_of_each_class_is_the_peers(listing: dict, truth: GroundTruth, detections: Detections, peer: dict) -> None:
    ours = coco_scores(truth.boxes, detections, truth.classes)["per_class_AP50"]
    ids = {c["name"]: str(c["id"]) for c in listing["categories"]}
    assert ours == {name: pytest.approx(peer["per_category"][ids[name]]["AP50"], abs=1e-9) for name in ids}


def without_classes(rows: Rows) -> Rows:
    """All rows in one class, those of an image by their class, as the peer joins them."""
    ordered = rows.where(np.argsort(rows.category, kind="stable"))
    return replace(ordered, category=np.zeros_like(ordered.category))


def test_without_classes_the_twelve_numbers_are_the_peers(
    truth: GroundTruth, detections: Detections, peer: dict
) -> None:
    boxes, found = (without_classes(rows) for rows in (truth.boxes, detections))
    ours, expected = coco_scores(boxes, found, ["any"]), peer["class_agnostic_useCats0"]
    assert [ours[name] for name in NUMBERS] == pytest.approx([expected[name] for name in NUMBERS], abs=1e-12)


def test_precision_and_recall_are_the_peers_at_every_threshold(
    folder: Path, truth: GroundTruth, detections: Detections
) -> None:
    peer = np.load(folder / "cocoeval_arrays.npz")
    found, most = match_detections(truth.boxes, detections), (1, 10, 100)
    assert IOU_THRESHOLDS.tolist() == peer["iou_thrs"].tolist()
    assert RECALLS.tolist() == peer["rec_thrs"].tolist()
    for category in range(len(truth.classes)):
        for m, boxes in enumerate(most):
            ours = precision_at_recalls(found, category, "all", boxes)
            np.testing.assert_allclose(ours, peer["precision"][:, :, category, m], rtol=0, atol=1e-12)
            for a, area in enumerate(AREAS):
                recall = max_recall(found, category, area, boxes)
                np.testing.assert_allclose(recall, peer["recall"][:, category, a, m], rtol=0, atol=1e-12)


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
    key: str, crowds: bool, listing: dict, truth: GroundTruth, detections: Detections, peer: dict
) -> None:
    worst, best = (curves_by_the_peers_rules(truth, detections, sign, crowds=crowds) for sign in (-1, 1))
    ids = {c["name"]: str(c["id"]) for c in listing["categories"]}
    float32 = 1e-6  # of the peer's figures
    for name, figure in (
        ("voc07_11pt_AP", PrecisionRecallCurve.average_precision_11_point),
        ("voc_allpoint_AP", PrecisionRecallCurve.average_precision_all_point),
    ):
        for one in truth.classes:
            lowest, highest = figure(worst[one]), figure(best[one])
            assert lowest - float32 <= peer[key][name][ids[one]] <= highest + float32, (name, one)
            assert highest - lowest < 0.1, "the bounds say something"


def test_vocs_means_are_those_of_its_classes(truth: GroundTruth, detections: Detections, peer: dict) -> None:
    boxes = extend_by_one_pixel(truth.boxes.where(~truth.boxes.is_crowd))
    worst, best = (
        voc_scores(boxes, of_equal_scores_the_right_first(boxes, extend_by_one_pixel(detections), sign), truth.classes,
                   rule="above")
        for sign in (-1, 1)
    )  # fmt: skip
    expected, float32 = peer["voc_mAP50_crowd_rows_removed"], 1e-6
    assert worst["AP_11_point"] - float32 <= expected["voc07_11pt_mAP"] <= best["AP_11_point"] + float32
    assert worst["AP_all_point"] - float32 <= expected["voc_allpoint_mAP"] <= best["AP_all_point"] + float32
