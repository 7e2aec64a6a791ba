"""Export as an image folder of Hugging Face's `datasets`: a folder per split with its images and metadata.jsonl."""

import math
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, BinaryIO

import orjson
import yaml

from mining.corpus.splits import TEST, TRAIN, VAL
from mining.export.base import ExportOptions, Written
from mining.export.croissant_parts import (
    BOX,
    FLOAT,
    INTEGER,
    JSON,
    JSON_LINES,
    TEXT,
    CroissantParts,
    class_list,
    column,
    file_object,
    image_set,
    record_set,
    sub_fields,
)
from mining.export.exported_set import ExportedSet, PartImage
from mining.export.image_files import place_named
from mining.export.licences import hub_licence

_SPLITS = {TRAIN: "train", VAL: "validation", TEST: "test"}
_SIZES = (
    (1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"),
    (10_000_000, "1M<n<10M"), (100_000_000, "10M<n<100M"), (math.inf, "100M<n<1B"),
)  # fmt: skip
_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff")


def export_hugging_face(exported: ExportedSet, out: Path, options: ExportOptions) -> Written:
    """Write train/, validation/ (and test/), each with images and metadata.jsonl, for `load_dataset`.

    A line of metadata.jsonl has `file_name`, `image_id`, `width`, `height` and `objects`: lists with one item per box,
    `id`, `bbox` (x, y, width, height in pixels), `categories` (from 0 in the order of the exported classes), `score`.
    classes.json lists the class names in that order, and the head of README.md declares the splits. The images of a
    split without any box are put into train, because `datasets` could not find out the types of their empty lists.

    A name with a leading dot, or a folder with two leading underscores, which `datasets` does not list, is given an `x`
    in front, and an image with an unusual suffix becomes a PNG. True boxes that are to be ignored are left out.
    """
    split_of, notes = _splits(exported)
    splits = tuple(dict.fromkeys(split_of.values()))
    count = Written(0, 0, (*notes, *exported.class_notes()), part_names=split_of, class_numbers=exported.class_indices)
    names = [name for _, name in exported.classes]
    (out / "classes.json").write_bytes(orjson.dumps(names, option=orjson.OPT_INDENT_2))
    with ExitStack() as files:
        lists: dict[str, BinaryIO] = {}
        for split in splits:
            (out / split).mkdir()
            lists[split] = files.enter_context((out / split / "metadata.jsonl").open("wb"))
        for one in exported:
            split = split_of[one.part]
            line = _line(exported, one, out / split, copy=options.copy)
            lists[split].write(orjson.dumps(line) + b"\n")
            boxes = count.boxes + len(line["objects"]["id"])
            count = count._replace(images=count.images + 1, boxes=boxes)
    head = _head(splits, count.images, options.license)
    return count._replace(readme_head=head, croissant=_describe(out, splits, names))


def _describe(out: Path, splits: Sequence[str], classes: Sequence[str]) -> CroissantParts:
    files = [file_object(out, "classes.json", JSON, "names of the classes, in the order of their numbers")]
    tables = [class_list(enumerate(classes), "number")]
    for split in splits:
        lines = f"{split}/metadata.jsonl"
        files.append(file_object(out, lines, JSON_LINES, f"one line per image of {split}, with its boxes"))
        files.append(image_set(out, split, only_images=False))
        objects = {
            "id": column(lines, "objects", INTEGER, "id of the box in the run", "id"),
            "bbox": column(lines, "objects", BOX, "x, y, width, height in pixels", "bbox"),
            "categories": column(lines, "objects", INTEGER, "number of its class, from 0", "categories"),
            "score": column(lines, "objects", FLOAT, "by which boxes are ranked; not a probability", "score"),
        }
        fields = {
            "file_name": column(lines, "file_name", TEXT, f"name of the file below {split}/"),
            "image_id": column(lines, "image_id", INTEGER, "id of the image in the run"),
            "width": column(lines, "width", INTEGER, "width in pixels"),
            "height": column(lines, "height", INTEGER, "height in pixels"),
            "objects": sub_fields(objects, "the boxes of the image"),
        }
        tables.append(record_set(f"{split}_images", f"One row per image of {split}.", fields, "image_id"))
    return CroissantParts(files, tables)


def _splits(exported: ExportedSet) -> tuple[dict[str, str], list[str]]:
    """The split of each part of the export, and notes on parts without any box."""
    boxes = Counter[str]()
    for one in exported:
        boxes[one.part] += sum(not box.is_ignored for box in one.boxes)
    joined = [part for part in exported.parts if part != TRAIN and not boxes[part]]
    split_of = {part: _SPLITS[TRAIN if part in joined else part] for part in exported.parts}
    return split_of, [f"No image of {_SPLITS[part]} has a box, so its images are in train." for part in joined]


def _line(exported: ExportedSet, one: PartImage, folder: Path, *, copy: bool) -> dict[str, Any]:
    image, boxes = one.image, [box for box in one.boxes if not box.is_ignored]
    name = place_named(exported.run.source_of(image), folder, image, _SUFFIXES, copy=copy, rename=_listed_name)
    return {
        "file_name": name,
        "image_id": image.image_id,
        "width": image.width,
        "height": image.height,
        "objects": {
            "id": [box.annotation_id for box in boxes],
            "bbox": [[box.x0, box.y0, round(box.x1 - box.x0, 2), round(box.y1 - box.y0, 2)] for box in boxes],
            "categories": [exported.class_indices[box.category_id] for box in boxes],
            "score": [box.score for box in boxes],
        },
    }


def _listed_name(part: str) -> str:
    return f"x{part}" if part.startswith((".", "__")) or part == "metadata.jsonl" else part


def _head(splits: Sequence[str], images: int, licence: str | None) -> str:
    """The YAML head of README.md, by which `datasets` finds the splits whatever the images are named."""
    files = [{"split": split, "path": f"{split}/**"} for split in splits]
    head = {
        **hub_licence(licence),
        "task_categories": ["object-detection"],
        "size_categories": [next(name for limit, name in _SIZES if images < limit)],
        "configs": [{"config_name": "default", "data_files": files}],
    }
    return f"---\n{yaml.safe_dump(head, sort_keys=False)}---\n\n"
