"""Tables of boxes (ANNOTATION_SCHEMA) as they are fused: sides, rows by image and class, boxes that moved."""

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mining.arrays import Floats, Ints
from mining.corpus.schema import FILTERED, LABELLED
from mining.runs.run import Run

Pair = tuple[int, int]  # image_id, category_id
_SIDES = ("x", "y", "w", "h")


def xyxy_of(table: pa.Table) -> Floats:
    """Return the boxes of a table as (n, 4) float64 x0, y0, x1, y1 in px."""
    x, y, w, h = (table[side].to_numpy().astype(np.float64) for side in _SIDES)
    return np.stack([x, y, x + w, y + h], axis=1)


def rows_by_pair(table: pa.Table) -> dict[Pair, Ints]:
    """Return the rows of each image and class, in the order of image_id, then category_id."""
    image, category = table["image_id"].to_numpy(), table["category_id"].to_numpy()
    order = np.lexsort((category, image))
    found: dict[Pair, Ints] = {}
    if len(order):
        is_first = np.append(True, (np.diff(image[order]) != 0) | (np.diff(category[order]) != 0))
        for rows in np.split(order, np.flatnonzero(is_first)[1:]):
            found[int(image[rows[0]]), int(category[rows[0]])] = rows
    return found


def with_boxes(table: pa.Table, xyxy: Floats, **columns: Any) -> pa.Table:
    """Return a table with other boxes, and other values of further columns.

    Args:
        table: n rows of ANNOTATION_SCHEMA.
        xyxy: (n, 4) boxes in px.
        columns: Name to n values.
    """
    x, y = xyxy[:, 0], xyxy[:, 1]
    w, h = xyxy[:, 2] - x, xyxy[:, 3] - y
    return with_columns(table, x=x, y=y, w=w, h=h, area=w * h, **columns)


def with_columns(table: pa.Table, **columns: Any) -> pa.Table:
    """Return a table with other values of some columns.

    Args:
        table: n rows of ANNOTATION_SCHEMA.
        columns: Name to n values.
    """
    for name, column in columns.items():
        field = table.schema.field(name)
        table = table.set_column(table.schema.get_field_index(name), field, pa.array(column, field.type))
    return table


def changed_states(run: Run, annotations: pa.Table) -> dict[int, str]:
    """Return the new state, by image_id, of the images of a run that have boxes in a new table only, or no more."""
    corpus = run.read_corpus(["image_id", "state"])
    with_box = set(annotations["image_id"].to_pylist())
    states = zip(corpus["image_id"].to_pylist(), corpus["state"].to_pylist(), strict=True)
    labelled = {number: LABELLED for number, state in states if number in with_box and state != LABELLED}
    ids = pc.filter(corpus["image_id"], pc.equal(corpus["state"], LABELLED)).to_pylist()
    return {**labelled, **{number: FILTERED for number in ids if number not in with_box}}
