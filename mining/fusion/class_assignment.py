"""Classes of boxes whose detector says where an object is, but not what it is.

a box that overlaps boxes of the run enough        has the class of the one that it overlaps most
another box of an image with one label             has that class
all others: no label, or several                   are left out; nobody knows what they show
"""

import numpy as np
import pyarrow as pa

from mining.boxes.iou import iou_matrix
from mining.fusion.box_tables import with_columns, xyxy_of
from mining.runs.run import Run

FROM_LABEL = "label"  # the `source` of boxes whose class was given for the image


def with_classes(detected: pa.Table, run: Run, least_iou: float) -> pa.Table:
    """Return boxes of the class `object` with the classes of a run, those of unknown class left out.

    Args:
        detected: Boxes of images of the run, rows of ANNOTATION_SCHEMA.
        run: A finished run of the same images.
        least_iou: Overlap with a box of the run from which a box has its class.

    Raises:
        RunError: A table of the run is missing or damaged.
    """
    classes = _classes_of(detected, run, least_iou)
    kept = [place for place, category in enumerate(classes) if category is not None]
    corpus = run.read_corpus(["image_id", "file_name", "labels"]).to_pylist()
    image_of = {row["file_name"]: row for row in corpus}
    names = dict(run.classes)
    table = detected.take(pa.array(kept, pa.int64()))
    images = [image_of[name] for name in table["file_name"].to_pylist()]
    numbers = [number for number in classes if number is not None]
    return with_columns(
        table,
        image_id=[image["image_id"] for image in images],
        category_id=numbers,
        category=[names[number] for number in numbers],
        source=[
            source if image["labels"] is None else FROM_LABEL
            for image, source in zip(images, table["source"].to_pylist(), strict=True)
        ],
    )


def _classes_of(detected: pa.Table, run: Run, least_iou: float) -> list[int | None]:
    """The category id of each box; None where it is not known."""
    before = run.read_annotations(["file_name", "category_id", "x", "y", "w", "h"])
    boxes, categories = xyxy_of(before), before["category_id"].to_pylist()
    rows_of: dict[str, list[int]] = {}
    for row, name in enumerate(before["file_name"].to_pylist()):
        rows_of.setdefault(name, []).append(row)
    ids = {name: number for number, name in run.classes}
    single = {
        row["file_name"]: ids.get(row["labels"][0])
        for row in run.read_corpus(["file_name", "labels"]).to_pylist()
        if row["labels"] is not None and len(row["labels"]) == 1
    }
    found: list[int | None] = []
    for name, box in zip(detected["file_name"].to_pylist(), xyxy_of(detected), strict=True):
        rows = rows_of.get(name, [])
        overlap = iou_matrix(box, boxes[rows])[0] if rows else np.zeros(1)
        is_near = overlap.max() >= least_iou
        found.append(categories[rows[int(overlap.argmax())]] if is_near else single.get(name))
    return found
