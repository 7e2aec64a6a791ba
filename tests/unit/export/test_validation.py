"""The validation images of an export and their boxes."""

import json
import re
import shutil
from pathlib import Path
from xml.etree import ElementTree

import pytest
import yaml

from mining.errors import InputError
from mining.export import export
from mining.export.splits import find_split
from mining.runs.rows import ImageRow
from tests.unit.export.conftest import Painted, SmallRun, write_run
from tests.unit.export.test_yolo import read

BOX = (1, 10, 10, 20, 20, 0.9)


def document(out: Path, part: str) -> dict:
    return json.loads((out / "annotations" / f"instances{part}.json").read_text())


def names(coco: dict) -> set[str]:
    return {image["file_name"] for image in coco["images"]}


def truth_file(folder: Path, images: dict[str, list[dict]], size: tuple[int, int] = (60, 40)) -> Path:
    """A COCO truth: file name to annotations, without ids."""
    entries = [{"id": n, "file_name": name, "width": size[0], "height": size[1]} for n, name in enumerate(images, 1)]
    annotations = [
        {"image_id": number, "category_id": 9, **box}
        for number, boxes in enumerate(images.values(), 1)
        for box in boxes
    ]
    value = {
        "images": entries,
        "categories": [{"id": 9, "name": "dog"}],
        "annotations": [{"id": n, **one} for n, one in enumerate(annotations, 1)],
    }
    (folder / "truth.json").write_text(json.dumps(value))
    return folder / "truth.json"


# --- copies ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def copied_run(tmp_path: Path) -> SmallRun:
    """Thirty images, every three of them the same photo."""
    run = write_run(tmp_path / "copied", [Painted(f"{n:02}.jpg", (BOX,), width=60 + n // 3) for n in range(30)])
    for n in (n for n in range(30) if n % 3):
        shutil.copyfile(run.images / f"{n // 3 * 3:02}.jpg", run.images / f"{n:02}.jpg")
    return run


@pytest.mark.parametrize("seed", range(5))
def test_identical_images_are_in_one_part(copied_run: SmallRun, tmp_path: Path, seed: int) -> None:
    export(copied_run.folder, "coco", tmp_path / "out", val_share=0.4, seed=seed)
    photos = [{int(name[:2]) // 3 for name in names(document(tmp_path / "out", part))} for part in ("_train", "_val")]
    assert photos[0]
    assert photos[1]
    assert not photos[0] & photos[1]


def row(number: int, split: str | None = None) -> ImageRow:
    return ImageRow(number, f"{number}.jpg", 10, 10, split, False)


def test_an_image_listed_in_two_splits_is_not_trained_on() -> None:
    rows = [row(0, "train"), row(1, "val"), row(2, "train"), row(3, "test")]
    copies = {"0.jpg": "0.jpg", "1.jpg": "0.jpg"}
    split = find_split(rows, val_share=0.1, seed=0, copies=copies)
    assert [split.part_of(one) for one in rows] == ["val", "val", "train", "test"]
    assert "1 were moved to another part" in split.notes[0]


def test_if_all_images_are_identical_none_is_in_val() -> None:
    rows = [row(number) for number in range(6)]
    split = find_split(rows, val_share=0.5, seed=0, copies={one.file_name: "0.jpg" for one in rows})
    assert {split.part_of(one) for one in rows} == {"train"}


# --- what is said ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("format", ["coco", "yolo", "voc"])
def test_a_note_says_that_validation_images_have_mined_boxes(
    format: str, unlisted_run: SmallRun, tmp_path: Path
) -> None:
    summary = export(unlisted_run.folder, format, tmp_path / "out", val_share=0.3)
    assert re.search("validation images? ha(s|ve) mined boxes, not ground truth", " ".join(summary.notes))
    text = (tmp_path / "out" / "README.md").read_text()
    assert all(note in text for note in summary.notes)
    assert "| val | " in text


def test_images_that_lose_a_labelled_class_to_min_score_are_counted(tmp_path: Path) -> None:
    low, both = (3, 30, 10, 10, 10, 0.2), ("dog", "cat & <mouse>")
    images = [Painted("lost.jpg", (BOX, low), both), Painted("whole.jpg", (BOX, (*low[:5], 0.8)), both)]
    images += [Painted("never.jpg", (BOX,), both), Painted("all low.jpg", (low,), ("cat & <mouse>",))]
    run = write_run(tmp_path, images)
    strict = export(run.folder, "coco", tmp_path / "strict", min_score=0.5, val_share=0).notes
    assert [note.split(":")[0] for note in strict] == [
        "1 image is left out because all boxes score below 0.5.",
        "1 image is exported with a labelled class that has no box, because its boxes score below 0.5",
        "1 image is exported with a labelled class that no box was mined for",
    ]
    assert len(export(run.folder, "coco", tmp_path / "all", val_share=0).notes) == 1


# --- COCO's parts ----------------------------------------------------------------------------------------------------


def test_coco_is_split_like_the_other_formats(unlisted_run: SmallRun, tmp_path: Path) -> None:
    export(unlisted_run.folder, "coco", tmp_path / "out", val_share=0.3)
    export(unlisted_run.folder, "yolo", tmp_path / "yolo", val_share=0.3)
    whole, train, val = (document(tmp_path / "out", part) for part in ("", "_train", "_val"))
    assert names(train) | names(val) == names(whole)
    assert names(val) == {path.name for path in (tmp_path / "yolo" / "images" / "val").iterdir()}
    assert len(train["annotations"]) + len(val["annotations"]) == len(whole["annotations"]) == 12
    assert {one["image_id"] for one in val["annotations"]} == {one["id"] for one in val["images"]}


def test_coco_without_validation_images_is_one_file(unlisted_run: SmallRun, tmp_path: Path) -> None:
    export(unlisted_run.folder, "coco", tmp_path / "out", val_share=0)
    assert [path.name for path in (tmp_path / "out" / "annotations").iterdir()] == ["instances.json"]


# --- true boxes ------------------------------------------------------------------------------------------------------


def true_boxes(run: SmallRun) -> dict[str, list[dict]]:
    """Of each listed test image one box, of the first also one that is not to be counted."""
    boxes = {p.file_name: [{"bbox": [1, 2, 30, 20]}] for p in run.painted if p.split == "test"}
    boxes["00.jpg"].append({"bbox": [40, 20, 40, 15], "iscrowd": 1})
    return boxes


def test_validation_images_have_ground_truth_boxes(listed_run: SmallRun, tmp_path: Path) -> None:
    truth = truth_file(tmp_path, true_boxes(listed_run))
    summary = export(listed_run.folder, "coco", tmp_path / "out", val_truth=truth)
    val, train = document(tmp_path / "out", "_val"), document(tmp_path / "out", "_train")
    assert [(one["bbox"], one["iscrowd"]) for one in val["annotations"]] == [
        ([1, 2, 30, 20], 0), ([40, 20, 20, 15], 1), *[([1, 2, 30, 20], 0)] * 3
    ]  # fmt: skip
    assert {one["source"] for one in val["annotations"]} == {"truth"}
    assert {one["source"] for one in train["annotations"]} == {"label"}
    ids = [one["id"] for one in document(tmp_path / "out", "")["annotations"]]
    assert len(set(ids)) == len(ids) == 8 + 5
    assert "4 validation images have the true boxes of truth.json." in summary.notes
    assert "| val | true | 4 | 5 | 0 |" in (tmp_path / "out" / "README.md").read_text()


def test_the_other_formats_have_ground_truth_boxes_too(listed_run: SmallRun, tmp_path: Path) -> None:
    truth = truth_file(tmp_path, true_boxes(listed_run))
    export(listed_run.folder, "yolo", tmp_path / "yolo", val_truth=truth)
    assert len((tmp_path / "yolo" / "labels" / "val" / "00.txt").read_text().splitlines()) == 1
    export(listed_run.folder, "voc", tmp_path / "voc", val_truth=truth)
    tree = ElementTree.parse(tmp_path / "voc" / "VOCdevkit" / "VOC2012" / "Annotations" / "00.xml")
    assert [one.text for one in tree.iter("difficult")] == ["0", "1"]


def test_images_without_a_mined_box_are_in_val_if_they_have_ground_truth(tmp_path: Path) -> None:
    """Without them the validation set would consist of the images that are easy to mine."""
    images = [Painted("a.jpg", (BOX,), split="train"), Painted("b.jpg", split="val"), Painted("c.jpg", split="val")]
    images.append(Painted("d.jpg", (BOX,), split="val"))
    run = write_run(tmp_path, images)
    truth = truth_file(tmp_path, {"b.jpg": [{"bbox": [1, 2, 30, 20]}], "c.jpg": []})
    summary = export(run.folder, "coco", tmp_path / "out", val_truth=truth)
    assert names(document(tmp_path / "out", "_val")) == {"b.jpg", "c.jpg"}
    assert "Validation images that are not in truth.json are left out: 1." in summary.notes


def test_ground_truth_of_an_image_of_another_size_is_not_used(listed_run: SmallRun, tmp_path: Path) -> None:
    truth = truth_file(tmp_path, true_boxes(listed_run), size=(40, 50))
    summary = export(listed_run.folder, "coco", tmp_path / "out", val_truth=truth)
    assert any(note.startswith("4 validation images have another size in truth.json") for note in summary.notes)
    assert len(document(tmp_path / "out", "")["images"]) == 8


def test_ground_truth_of_other_classes_is_refused(listed_run: SmallRun, tmp_path: Path) -> None:
    truth = truth_file(tmp_path, true_boxes(listed_run))
    truth.write_text(truth.read_text().replace('"dog"', '"bird"'))
    with pytest.raises(InputError, match="none of the model's classes: it has bird, the model dog"):
        export(listed_run.folder, "coco", tmp_path / "out", val_truth=truth)
    assert not (tmp_path / "out").exists()


# --- Ultralytics -----------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_ultralytics_starts_if_no_image_is_held_out(unlisted_run: SmallRun, tmp_path: Path) -> None:
    summary = export(unlisted_run.folder, "yolo", tmp_path / "out", val_share=0)
    data = yaml.safe_load((tmp_path / "out" / "data.yaml").read_text())
    assert (data["train"], data["val"]) == ("images/train", "images/train")
    assert any(note.startswith("No image is held out.") for note in summary.notes)
    parts = read(tmp_path / "out", tmp_path / "scratch")["parts"]
    assert len(parts["train"]) == len(parts["val"]) == 12
