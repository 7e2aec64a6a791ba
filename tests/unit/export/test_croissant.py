"""croissant.json, validated and read by MLCommons' mlcroissant."""

import json
from fnmatch import fnmatchcase
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from mining.export import export
from tests.unit.export.conftest import CLASSES, Painted, SmallRun, write_run
from tests.unit.export.test_validation import true_boxes, truth_file

FORMATS = ("coco", "yolo", "voc", "hf")
IMAGES = {".jpg", ".png", ".gif", ".JPG"}


@pytest.fixture
def mlcroissant():
    return pytest.importorskip("mlcroissant", reason="mlcroissant is not installed")


def document(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "croissant.json").read_text(encoding="utf-8"))


def files_of(node: dict[str, Any], folder: Path) -> set[str]:
    names = (path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    return {name for name in names if any(fnmatchcase(name, pattern) for pattern in node["includes"])}


@pytest.mark.parametrize("format", FORMATS)
def test_it_is_valid(mlcroissant, format: str, small_run: SmallRun, tmp_path: Path) -> None:
    export(small_run.folder, format, tmp_path / "set", val_share=0.3)
    found = mlcroissant.Dataset(jsonld=tmp_path / "set" / "croissant.json").metadata
    assert not found.issues.errors
    assert all("is recommended, but does not exist" in one for one in found.issues.warnings)
    assert found.ctx.conforms_to.value == "http://mlcommons.org/croissant/1.0"


@pytest.mark.parametrize("format", FORMATS)
def test_a_set_without_a_box_or_an_image_is_valid(
    mlcroissant, format: str, small_run: SmallRun, tmp_path: Path
) -> None:
    export(small_run.folder, format, tmp_path / "no box", min_score=1.0)
    no_image = write_run(tmp_path / "other", [Painted("nothing.jpg")])
    export(no_image.folder, format, tmp_path / "no image")
    assert not mlcroissant.Dataset(jsonld=tmp_path / "no image" / "croissant.json").metadata.issues.errors
    found = mlcroissant.Dataset(jsonld=tmp_path / "no box" / "croissant.json")
    assert not found.metadata.issues.errors
    tables = {one.id for one in found.metadata.record_sets} - {"categories", "images"}
    assert not any(row.get(f"{one}/objects", True) for one in tables for row in found.records(one))


@pytest.mark.parametrize("format", FORMATS)
def test_it_names_all_files_with_their_digests(format: str, small_run: SmallRun, tmp_path: Path) -> None:
    folder = tmp_path / "set"
    summary = export(small_run.folder, format, folder, val_share=0.3)
    described = {"README.md", "croissant.json"}
    images = 0
    for node in document(folder)["distribution"]:
        if node["@type"] == "cr:FileObject":
            content = (folder / node["contentUrl"]).read_bytes()
            assert node["sha256"] == sha256(content).hexdigest()
            assert node["contentSize"] == f"{len(content)} B"
            described.add(node["contentUrl"])
        else:
            own = files_of(node, folder)
            images += sum(Path(name).suffix in IMAGES for name in own)
            assert not own & described
            described |= own
    assert images == summary.images
    assert described == {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("has_truth", [False, True])
def test_images_and_boxes_of_coco_are_read(mlcroissant, has_truth: bool, listed_run: SmallRun, tmp_path: Path) -> None:
    truth = truth_file(tmp_path, true_boxes(listed_run)) if has_truth else None
    summary = export(listed_run.folder, "coco", tmp_path / "set", val_truth=truth)
    coco = json.loads((tmp_path / "set" / "annotations" / "instances.json").read_text())
    read = mlcroissant.Dataset(jsonld=tmp_path / "set" / "croissant.json")
    boxes = list(read.records("boxes"))
    assert len(boxes) == summary.boxes > 0
    assert [
        (one["boxes/id"], one["boxes/image_id"], one["boxes/category_id"], one["boxes/bbox"], one["boxes/iscrowd"])
        for one in boxes
    ] == [(one["id"], one["image_id"], one["category_id"], one["bbox"], one["iscrowd"]) for one in coco["annotations"]]
    assert {one["boxes/source"] for one in boxes} == ({b"label", b"truth"} if has_truth else {b"label"})
    images = list(read.records("images"))
    assert [one["images/file_name"].decode() for one in images] == [one["file_name"] for one in coco["images"]]
    classes = list(read.records("categories"))
    assert [(one["categories/id"], one["categories/name"]) for one in classes] == [
        (one["id"], one["name"]) for one in CLASSES
    ]


def test_images_and_boxes_of_hugging_face_are_read(mlcroissant, small_run: SmallRun, tmp_path: Path) -> None:
    summary = export(small_run.folder, "hf", tmp_path / "set", val_share=0.5)
    read = mlcroissant.Dataset(jsonld=tmp_path / "set" / "croissant.json")
    rows = {
        (split, row[f"{split}_images/image_id"]): [
            (box[f"{split}_images/objects/id"], box[f"{split}_images/objects/bbox"])
            for box in row[f"{split}_images/objects"]
        ]
        for split in ("train", "validation")
        for row in read.records(f"{split}_images")
    }
    listed = {
        (split, row["image_id"]): list(zip(row["objects"]["id"], row["objects"]["bbox"], strict=True))
        for split in ("train", "validation")
        for row in map(json.loads, (tmp_path / "set" / split / "metadata.jsonl").read_text().splitlines())
    }
    assert rows == listed
    assert len(rows) == summary.images
    assert sum(map(len, rows.values())) == summary.boxes > 0


def test_scores_of_yolo_are_read(mlcroissant, small_run: SmallRun, tmp_path: Path) -> None:
    summary = export(small_run.folder, "yolo", tmp_path / "set")
    rows = list(mlcroissant.Dataset(jsonld=tmp_path / "set" / "croissant.json").records("scores"))
    assert len({row["scores/annotation_id"] for row in rows}) == len(rows) == summary.boxes
    assert (tmp_path / "set" / rows[0]["scores/label_file"].decode()).is_file()


@pytest.mark.parametrize("license", [None, "CC-BY-4.0"])
def test_the_licence_is_that_of_the_option(license: str | None, small_run: SmallRun, tmp_path: Path) -> None:
    export(small_run.folder, "coco", tmp_path / "set", license=license)
    assert document(tmp_path / "set")["license"] == (license or "unknown")


@pytest.mark.parametrize("format", ["labelstudio", "cvat"])
def test_sets_for_review_have_none(format: str, small_run: SmallRun, tmp_path: Path) -> None:
    export(small_run.folder, format, tmp_path / "set")
    assert not (tmp_path / "set" / "croissant.json").exists()
