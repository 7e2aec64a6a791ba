"""CVAT for images 1.1, read back by Datumaro, the library that CVAT itself reads and writes datasets with."""

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from xml.etree import ElementTree

import pytest
from PIL import Image

from mining.export import export

# in a process of its own: Datumaro replaces handlers and settings of other libraries
READ = """
import json, sys
from datumaro.components.dataset import Dataset
data = Dataset.import_from(sys.argv[1], "cvat")
labels = data.categories()[next(iter(data.categories()))]
items = {}
for item in data:
    boxes = [(labels[one.label].name, [one.x, one.y, one.x + one.w, one.y + one.h], one.attributes) for one in item.annotations]
    items[item.id] = {"boxes": boxes, "size": item.media.size if item.media else None}
json.dump({"labels": [one.name for one in labels.items], "items": items}, open(sys.argv[2], "w"), default=str)
"""


def read(out: Path, scratch: Path) -> dict:
    if find_spec("datumaro") is None:
        pytest.skip("datumaro is not installed")
    command = [sys.executable, "-c", READ, str(out), str(scratch / "read.json")]
    child = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
    assert child.returncode == 0, child.stdout + child.stderr
    return json.loads((scratch / "read.json").read_text())


def test_datumaro_finds_every_box_with_its_score(small_run, tmp_path: Path) -> None:
    out = tmp_path / "out"
    export(small_run.folder, "cvat", out)
    found = read(out, tmp_path)
    assert found["labels"] == ["dog", "cat & <mouse>"]
    exported_as = {"a/1.png": "a/1_png.png"}  # CVAT and Datumaro tell images apart by their names without the suffix
    truth = {
        exported_as.get(name, name).rpartition(".")[0]: [
            (label, pytest.approx(xyxy, abs=0.01)) for label, xyxy in boxes
        ]
        for name, boxes in small_run.truth().items()
    }
    items = {name: item for name, item in found["items"].items() if item["boxes"]}
    assert {name: [(label, tuple(xyxy)) for label, xyxy, _ in item["boxes"]] for name, item in items.items()} == truth
    (only,) = items["b/1"]["boxes"]
    assert float(only[2]["score"]) == 0.8
    assert str(only[2]["annotation_id"]).endswith("-3")


def test_boxes_are_marked_automatic_and_their_attributes_are_declared(small_run, tmp_path: Path) -> None:
    out = tmp_path / "out"
    summary = export(small_run.folder, "cvat", out)
    root = ElementTree.parse(out / "annotations.xml").getroot()
    boxes = list(root.iter("box"))
    assert len(boxes) == summary.boxes == 11
    assert {box.get("source") for box in boxes} == {"auto"}
    used = {attribute.get("name") for box in boxes for attribute in box.iter("attribute")}
    for label in root.iter("label"):
        assert {one.findtext("name") for one in label.iter("attribute")} == used == {"score", "annotation_id"}
    raw = json.loads((out / "labels.json").read_text(encoding="utf-8"))
    assert [label["name"] for label in raw] == ["dog", "cat & <mouse>"]
    assert all({one["name"] for one in label["attributes"]} == used for label in raw)


def test_images_are_placed_under_the_names_that_the_file_lists(small_run, tmp_path: Path) -> None:
    out = tmp_path / "out"
    export(small_run.folder, "cvat", out)
    for image in ElementTree.parse(out / "annotations.xml").iter("image"):
        with Image.open(out / "images" / str(image.get("name"))) as opened:
            assert opened.size == (int(str(image.get("width"))), int(str(image.get("height"))))
