"""Export as tasks of Label Studio, with the boxes as predictions that a person checks."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote
from xml.etree import ElementTree

import orjson

from mining.export.base import ExportOptions, Written
from mining.export.exported_set import ExportedSet
from mining.export.image_files import place_named
from mining.export.xml_text import xml_text
from mining.quality.label_studio_file import REGION_TYPE
from mining.quality.review_keys import box_key, run_key
from mining.runs.rows import BoxRow, ImageRow

LABELS, IMAGE = "label", "image"  # names of the tags in the labelling interface
_SHOWN_BY_BROWSERS = {
    ".jpg": "JPEG", ".jpeg": "JPEG", ".jfif": "JPEG", ".png": "PNG", ".gif": "GIF", ".webp": "WEBP", ".bmp": "BMP",
    ".avif": "AVIF",
}  # fmt: skip
_ADDRESS = "/data/local-files/?d=images/"
_NOTE = (
    "Label Studio finds the images if it runs with LABEL_STUDIO_LOCAL_FILES_SERVING_ENABLED=true and "
    "LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT set to this folder, and the project has the folder images as local storage."
)


def export_label_studio(exported: ExportedSet, out: Path, options: ExportOptions) -> Written:
    """Write tasks.json, label_config.xml (the labelling interface) and images/.

    All boxes of an image are in one prediction. A region's score is that of its box; a prediction's score, by which
    Label Studio sorts tasks, is the lowest of its boxes, so that in ascending order the image with the most doubtful
    box comes first. A region's id and `meta` are the key of the box, by which `read_review` recognises it. An
    image in a format that browsers do not show becomes a PNG.
    """
    (out / "images").mkdir()
    count = Written(0, 0, (_NOTE,))
    with (out / "tasks.json").open("wb") as file:
        file.write(b"[")
        for task, boxes in _tasks(exported, out / "images", copy=options.copy):
            file.write((b",\n" if count.images else b"\n") + orjson.dumps(task))
            count = count._replace(images=count.images + 1, boxes=count.boxes + boxes)
        file.write(b"\n]\n")
    _write_interface(out / "label_config.xml", [name for _, name in exported.classes])
    return count._replace(notes=(*count.notes, *exported.class_notes()))


def _tasks(exported: ExportedSet, folder: Path, *, copy: bool) -> Iterator[tuple[dict[str, Any], int]]:
    """The tasks, each with its number of boxes; images are placed."""
    formats, key = tuple(dict.fromkeys(_SHOWN_BY_BROWSERS.values())), run_key(exported.run)
    for one in exported:
        image = one.image
        name = place_named(exported.run.source_of(image), folder, image, _SHOWN_BY_BROWSERS, formats, copy=copy)
        boxes = [box for box in one.boxes if not box.is_ignored]
        data = {
            "image": _ADDRESS + quote(name), "file_name": image.file_name, "image_id": image.image_id, "run": key,
            "annotation_ids": [box.annotation_id for box in boxes],
        }  # fmt: skip
        regions = [_region(key, image, box) for box in boxes]
        lowest = min((box.score for box in boxes), default=0.0)
        prediction = {"model_version": exported.run.name, "score": lowest, "result": regions}
        yield {"data": data, "predictions": [prediction] if boxes else []}, len(boxes)


def _region(run: str, image: ImageRow, box: BoxRow) -> dict[str, Any]:
    return {
        "id": box_key(run, box.annotation_id),
        "type": REGION_TYPE,
        "from_name": LABELS,
        "to_name": IMAGE,
        "original_width": image.width,
        "original_height": image.height,
        "image_rotation": 0,
        "score": box.score,
        "meta": {"box": box_key(run, box.annotation_id)},
        "value": {
            "x": 100 * box.x0 / image.width,
            "y": 100 * box.y0 / image.height,
            "width": 100 * (box.x1 - box.x0) / image.width,
            "height": 100 * (box.y1 - box.y0) / image.height,
            "rotation": 0,
            REGION_TYPE: [xml_text(box.category)],
        },
    }


def _write_interface(path: Path, classes: list[str]) -> None:
    view = ElementTree.Element("View")
    ElementTree.SubElement(view, "Image", name=IMAGE, value="$image", zoom="true", zoomControl="true")
    labels = ElementTree.SubElement(view, "RectangleLabels", name=LABELS, toName=IMAGE)
    for name in classes:
        ElementTree.SubElement(labels, "Label", value=xml_text(name))
    ElementTree.indent(view)
    path.write_text(ElementTree.tostring(view, encoding="unicode") + "\n", encoding="utf-8")
