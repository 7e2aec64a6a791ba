"""An export lists all classes of the model, or with `used_classes` those that have a box."""

import json
from pathlib import Path

import pytest
import yaml

from mining.export import export
from tests.unit.export.conftest import Painted, SmallRun, write_run

CLASSES = [{"id": 1, "name": "dog"}, {"id": 3, "name": "cat & <mouse>"}, {"id": 4, "name": "hen"}]


@pytest.fixture
def run(tmp_path: Path) -> SmallRun:
    """A run whose model knows three classes, of which only the second has boxes."""
    boxes = ((3, 10, 10, 20, 20, 0.9),)
    small = write_run(tmp_path, [Painted("1.jpg", boxes), Painted("2.jpg", boxes)])
    card = json.loads((small.folder / "model" / "model.json").read_text())
    (small.folder / "model" / "model.json").write_text(json.dumps({**card, "classes": CLASSES}))
    return small


def categories(out: Path) -> list[tuple[int, str]]:
    document = json.loads((out / "annotations" / "instances.json").read_bytes())
    assert {box["category_id"] for box in document["annotations"]} <= {one["id"] for one in document["categories"]}
    return [(one["id"], one["name"]) for one in document["categories"]]


def yolo_names(out: Path) -> dict[int, str]:
    return yaml.safe_load((out / "data.yaml").read_text())["names"]


def yolo_classes(out: Path) -> set[int]:
    lines = [line for path in (out / "labels").rglob("*.txt") for line in path.read_text().splitlines()]
    return {int(line.split()[0]) for line in lines}


def test_by_default_all_classes_are_listed_and_a_note_names_the_option(run: SmallRun, tmp_path: Path) -> None:
    note = "1 of 3 classes have a box; --used-classes lists only these."
    assert note in export(run.folder, "coco", tmp_path / "coco").notes
    assert categories(tmp_path / "coco") == [(1, "dog"), (3, "cat & <mouse>"), (4, "hen")]
    assert note in export(run.folder, "yolo", tmp_path / "yolo").notes
    assert yolo_names(tmp_path / "yolo") == {0: "dog", 1: "cat & <mouse>", 2: "hen"}
    assert yolo_classes(tmp_path / "yolo") == {1}


def test_used_classes_keep_their_id_in_coco_and_are_numbered_from_0_in_yolo(run: SmallRun, tmp_path: Path) -> None:
    summary = export(run.folder, "coco", tmp_path / "coco", used_classes=True)
    assert categories(tmp_path / "coco") == [(3, "cat & <mouse>")]
    assert not any("--used-classes" in note for note in summary.notes)
    export(run.folder, "yolo", tmp_path / "yolo", used_classes=True)
    assert yolo_names(tmp_path / "yolo") == {0: "cat & <mouse>"}
    assert yolo_classes(tmp_path / "yolo") == {0}


def test_without_any_box_all_classes_are_listed(run: SmallRun, tmp_path: Path) -> None:
    export(run.folder, "yolo", tmp_path / "yolo", used_classes=True, min_score=1.0, include_empty=True)
    assert len(yolo_names(tmp_path / "yolo")) == 3
