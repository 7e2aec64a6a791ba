"""COCO and YOLO exports, read by supervision; what FiftyOne asks of a COCO file; scores of YOLO's labels in a file of their own."""

import csv
import json
from pathlib import Path

import pytest

from mining.export import export

RESERVED_BY_FIFTYONE = {"label", "confidence", "mask", "bounding_box", "index", "tags"}


@pytest.fixture
def supervision():
    return pytest.importorskip("supervision", reason="supervision is not installed")


def as_truth(dataset, folder: Path) -> dict[str, list]:
    return {
        Path(path).relative_to(folder).as_posix(): [
            (dataset.classes[category], pytest.approx(tuple(xyxy), abs=0.6))
            for category, xyxy in zip(detections.class_id, detections.xyxy, strict=True)
        ]
        for path, detections in dataset.annotations.items()
        if len(detections)
    }


def test_supervision_reads_the_coco_export(supervision, small_run, tmp_path: Path) -> None:
    out = tmp_path / "out"
    export(small_run.folder, "coco", out)
    dataset = supervision.DetectionDataset.from_coco(
        images_directory_path=str(out / "images"), annotations_path=str(out / "annotations" / "instances.json")
    )
    assert as_truth(dataset, out / "images") == small_run.truth()


def test_supervision_reads_the_yolo_export(supervision, small_run, tmp_path: Path) -> None:
    out = tmp_path / "out"
    export(small_run.folder, "yolo", out, val_share=0.0)
    dataset = supervision.DetectionDataset.from_yolo(
        images_directory_path=str(out / "images" / "train" / "b"),
        annotations_directory_path=str(out / "labels" / "train" / "b"),
        data_yaml_path=str(out / "data.yaml"),
    )
    assert as_truth(dataset, out / "images" / "train") == {"b/1.jpg": small_run.truth()["b/1.jpg"]}


def test_fiftyone_finds_a_score_and_no_reserved_attribute(small_run, tmp_path: Path) -> None:
    export(small_run.folder, "coco", tmp_path / "out")
    document = json.loads((tmp_path / "out" / "annotations" / "instances.json").read_text(encoding="utf-8"))
    for entry in document["annotations"]:
        assert 0 <= entry["score"] <= 1
        assert not RESERVED_BY_FIFTYONE & set(entry)


def test_the_scores_of_yolo_labels_stand_in_a_file_of_their_own(small_run, tmp_path: Path) -> None:
    out = tmp_path / "out"
    export(small_run.folder, "yolo", out)
    with (out / "scores.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 11
    scored = {(row["label_file"], int(row["line"])): float(row["score"]) for row in rows}
    lines = {
        (path.relative_to(out).as_posix(), number): line.split()
        for path in (out / "labels").rglob("*.txt")
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1)
    }
    assert set(scored) == set(lines)
    assert all(len(line) == 5 for line in lines.values())
    of_first = [score for (name, _), score in sorted(scored.items()) if name.endswith("/a/1.txt")]
    assert of_first == [0.9, 0.7]
