"""Export as a COCO folder: annotations/instances.json beside the images."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mining
from mining.export.base import ExportOptions, Written
from mining.export.croissant_parts import (
    BOX,
    FLOAT,
    INTEGER,
    JSON,
    PYTHON,
    TEXT,
    CroissantParts,
    again,
    class_list,
    file_object,
    image_set,
    json_field,
    record_set,
)
from mining.export.exported_set import ExportedSet, PartImage
from mining.export.image_files import place_image
from mining.export.training_configs import CARD_LINES, CONFIG_FILES, write_training_configs
from mining.runs.coco_json import write_document
from mining.runs.rows import BoxRow, ImageRow

_NO_POLYGONS: list[Any] = []


def export_coco(exported: ExportedSet, out: Path, options: ExportOptions) -> Written:
    """Write annotations/*.json and images/, which torchvision's CocoDetection and pycocotools read.

    instances.json lists all images; instances_train.json and instances_val.json (and instances_test.json if the corpus
    has all three parts) list those of each part. There are no part files if no image is held out. Images keep their
    names and sub-folders below images/, and images, boxes and categories keep the ids of the run. Ground truth boxes
    that are to be ignored have iscrowd 1. configs/ has files to train with.
    """
    placing = _ImagePlacing(exported, out / "images", copy=options.copy)
    boxes = _write(exported, out / "annotations" / "instances.json", placing.place_all(), None)
    parts = exported.parts if len(exported.parts) > 1 else ()
    for part in parts:
        images = (one for one in exported if one.part == part)
        _write(exported, out / "annotations" / f"instances_{part}.json", images, part)
    write_training_configs(exported, out)
    return Written(
        placing.count, boxes, exported.class_notes(), keeps_ignored=True,
        class_numbers={number: number for number, _ in exported.classes}, croissant=_describe(exported, out, parts),
        training=CARD_LINES,
    )  # fmt: skip


def _write(exported: ExportedSet, path: Path, images: Iterator[PartImage], part: str | None) -> int:
    boxes = (box for one in exported if part in (None, one.part) for box in one.boxes)
    return write_document(
        path,
        info={"description": f"boxmine pseudo-annotations of run {exported.run.name}", "version": mining.__version__},
        categories=[{"id": number, "name": name} for number, name in exported.classes],
        images=(_image_entry(one.image) for one in images),
        annotations=map(_annotation_entry, boxes),
    )


def _image_entry(image: ImageRow) -> dict[str, Any]:
    return {"id": image.image_id, "file_name": image.file_name, "width": image.width, "height": image.height}


def _annotation_entry(box: BoxRow) -> dict[str, Any]:
    annotation_id, image_id, category_id, _, source, score, x0, y0, x1, y1, is_ignored = box
    w, h = round(x1 - x0, 2), round(y1 - y0, 2)
    return {
        "id": annotation_id,
        "image_id": image_id,
        "category_id": category_id,
        "bbox": [x0, y0, w, h],
        "area": round(w * h, 2),
        "iscrowd": int(is_ignored),
        "segmentation": _NO_POLYGONS,
        "score": score,
        "source": source,
    }


def _describe(exported: ExportedSet, out: Path, parts: tuple[str, ...]) -> CroissantParts:
    """All images and boxes are read from instances.json; those of the parts are the same ones."""
    everything, listed = "annotations/instances.json", "annotations/instances.json#images"
    whole = file_object(out, everything, JSON, "all images and boxes, in COCO format")
    files = [
        whole,
        again(whole, listed, "the same file, for the table of the images"),
        *(
            file_object(out, f"annotations/instances_{part}.json", JSON, f"images and boxes of {part}, in COCO format")
            for part in parts
        ),
        *(file_object(out, file, PYTHON, f"how to train: {what}") for file, what in CONFIG_FILES.items()),
        image_set(out, "images"),
    ]
    of_image, of_box = "$.images[*].", "$.annotations[*]."
    images = {
        "id": json_field(listed, of_image + "id", INTEGER, "id of the image"),
        "file_name": json_field(listed, of_image + "file_name", TEXT, "name of the file below images/"),
        "width": json_field(listed, of_image + "width", INTEGER, "width in pixels"),
        "height": json_field(listed, of_image + "height", INTEGER, "height in pixels"),
    }
    boxes = {
        "id": json_field(everything, of_box + "id", INTEGER, "id of the box"),
        "image_id": json_field(everything, of_box + "image_id", INTEGER, "its image", "images/id"),
        "category_id": json_field(everything, of_box + "category_id", INTEGER, "its class", "categories/id"),
        "bbox": json_field(everything, of_box + "bbox", BOX, "x, y, width, height in pixels"),
        "score": json_field(everything, of_box + "score", FLOAT, "by which boxes are ranked; not a probability"),
        "source": json_field(everything, of_box + "source", TEXT, "what the box is from, see README.md"),
        "iscrowd": json_field(everything, of_box + "iscrowd", INTEGER, "1 = a true box that is to be ignored"),
    }
    tables = [
        class_list(exported.classes, "id"),
        record_set("images", "One row per image.", images, "id"),
        record_set("boxes", "One row per box.", boxes, "id"),
    ]
    return CroissantParts(files, tables)


class _ImagePlacing:
    """Places each image's file in the export while its entry is written."""

    def __init__(self, exported: ExportedSet, folder: Path, *, copy: bool) -> None:
        self.exported, self.folder, self.copy = exported, folder, copy
        self.count = 0

    def place_all(self) -> Iterator[PartImage]:
        self.folder.mkdir(parents=True)
        for one in self.exported:
            image = one.image
            source, target = self.exported.run.source_of(image), self.folder / image.file_name
            place_image(source, target, size=(image.width, image.height), copy=self.copy)
            self.count += 1
            yield one
