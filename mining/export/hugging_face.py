"""Export as an image folder of Hugging Face's `datasets`: a folder per split with its images and metadata.jsonl."""

from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, BinaryIO

import orjson
import yaml

from mining.corpus.splits import TEST, TRAIN, VAL
from mining.export.base import ExportOptions, Written
from mining.export.exported_set import ExportedSet, PartImage
from mining.export.image_files import place_named

_SPLITS = {TRAIN: "train", VAL: "validation", TEST: "test"}
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
    count = Written(0, 0, (*notes, *exported.class_notes()), _head(splits))
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
    return count


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


def _head(splits: Sequence[str]) -> str:
    """The YAML head of README.md, by which `datasets` finds the splits whatever the images are named."""
    files = [{"split": split, "path": f"{split}/**"} for split in splits]
    head = {
        "task_categories": ["object-detection"],
        "configs": [{"config_name": "default", "data_files": files}],
    }
    return f"---\n{yaml.safe_dump(head, sort_keys=False)}---\n\n"
