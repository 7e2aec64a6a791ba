"""Boxes from COCO segmentations, for annotations that have a mask but no `bbox`.

A segmentation is a list of polygons or a run-length encoding (RLE), compressed or not. pycocotools reads all three.
Values are checked before, because it trusts its input: a malformed compressed RLE makes it read past its buffer, and
the memory that a polygon needs grows with its perimeter.
"""

import math
import re
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask

Box = tuple[float, float, float, float]

MAX_SIDE_PX = 65_535  # of an image
# one number per run: characters with the continuation bit, at most 35 bits in all, then one without
_COMPRESSED = re.compile(r"(?:[P-o]{0,6}[0-O])+")


def box_from_segmentation(segmentation: Any, width: Any, height: Any) -> Box | None:
    """Return the extent of a mask.

    Args:
        segmentation: Value of COCO's `segmentation`, as written: a list of polygons [x0, y0, x1, y1, ...] in pixels, or
            an RLE with `size` [height, width] and `counts` (a list, or compressed text).
        width: Width of the image as the file states it; polygons need it.
        height: Height of the image.

    Returns:
        x, y, width, height of the mask's pixels, half-open, as `pycocotools.mask.toBbox` gives them; None where the
        value is no segmentation.
    """
    runs = _read_rle(segmentation) if isinstance(segmentation, dict) else _read_polygons(segmentation, width, height)
    if runs is None:
        return None
    x, y, w, h = (float(value) for value in coco_mask.toBbox(runs))
    rows, columns = runs["size"]
    is_inside = 0 <= x <= x + w <= columns and 0 <= y <= y + h <= rows
    return (x, y, w, h) if is_inside else None


def _read_polygons(polygons: Any, width: Any, height: Any) -> dict[str, Any] | None:
    if not isinstance(polygons, list) or not polygons or not all(map(_is_polygon, polygons)):
        return None
    points = np.concatenate([np.asarray(polygon, np.float64) for polygon in polygons])
    if not np.isfinite(points).all():
        return None
    columns, rows = _side(width), _side(height)
    if columns is None or rows is None or np.abs(points).max() > 2 * max(columns, rows):
        return None
    return dict(coco_mask.merge(coco_mask.frPyObjects([list(map(float, p)) for p in polygons], rows, columns)))


def _is_polygon(points: Any) -> bool:
    return isinstance(points, list) and len(points) >= 6 and len(points) % 2 == 0 and all(map(_is_number, points))


def _read_rle(rle: dict[str, Any]) -> dict[str, Any] | None:
    size, counts = rle.get("size"), rle.get("counts")
    if not isinstance(size, list) or len(size) != 2:
        return None
    rows, columns = _side(size[0]), _side(size[1])
    if rows is None or columns is None:
        return None
    if isinstance(counts, str):
        is_well_formed = _COMPRESSED.fullmatch(counts) is not None
        return {"size": [rows, columns], "counts": counts.encode("ascii")} if is_well_formed else None
    if not isinstance(counts, list) or not all(_is_number(run) and run >= 0 and run == int(run) for run in counts):
        return None
    if sum(counts) != rows * columns:
        return None
    written = {"size": [rows, columns], "counts": [int(run) for run in counts]}
    return dict(coco_mask.frPyObjects(written, rows, columns))


def _side(value: Any) -> int | None:
    """A side in whole pixels; None where it is none, or too long for an image."""
    is_side = _is_number(value) and 1 <= value <= MAX_SIDE_PX
    return math.ceil(value) if is_side else None


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
