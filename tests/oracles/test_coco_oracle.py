"""Our COCO numbers against those of pycocotools, run on its own on the same 200 images."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from mining.scoring import Detections, Truth, coco_scores, read_truth
from mining.scoring.coco import NUMBERS


@pytest.fixture(scope="module")
def folder(oracle: Callable[[str], Path]) -> Path:
    return oracle("coco")


@pytest.fixture(scope="module")
def truth(folder: Path) -> Truth:
    return read_truth(folder / "gt.json")


@pytest.fixture(scope="module")
def peer(folder: Path) -> dict:
    return json.loads((folder / "cocoeval.json").read_text())


@pytest.fixture(scope="module")
def detections(folder: Path, truth: Truth) -> Detections:
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


def test_the_truth_of_the_oracle_is_read_whole(truth: Truth) -> None:
    assert (len(truth.file_names), len(truth.boxes), truth.boxes.is_crowd.sum()) == (200, 669, 16)
    assert truth.notes == ()


@pytest.mark.parametrize("number", NUMBERS)
def test_each_of_the_twelve_numbers_is_the_peers(number: str, truth: Truth, detections: Detections, peer: dict) -> None:
    ours = coco_scores(truth.boxes, detections, truth.classes)
    assert ours[number] == pytest.approx(peer["coco12"][number], abs=1e-9)


def test_ap50_of_each_class_is_the_peers(folder: Path, truth: Truth, detections: Detections, peer: dict) -> None:
    ours = coco_scores(truth.boxes, detections, truth.classes)["per_class_AP50"]
    ids = {c["name"]: str(c["id"]) for c in json.loads((folder / "gt.json").read_text())["categories"]}
    assert ours == {name: pytest.approx(peer["per_category"][ids[name]]["AP50"], abs=1e-9) for name in ids}
