"""How far boxes overlap. Boxes are xyxy and half-open: a side is x1 - x0, without the peers' +1."""

import numpy as np
from numpy.typing import ArrayLike

from mining.arrays import Floats


def iou_matrix(first: ArrayLike, second: ArrayLike) -> Floats:
    """Intersection over union of (n, 4) boxes with (m, 4) boxes.

    Gives (n, m) float64 in [0, 1]; a box without area has IoU 0 with everything.
    """
    left, right = (np.asarray(boxes, np.float64).reshape(-1, 4) for boxes in (first, second))
    return paired_iou(left[:, None], right)


def paired_iou(first: ArrayLike, second: ArrayLike) -> Floats:
    """Intersection over union of boxes in the last axis, (..., 4) and (..., 4), broadcast; 0 for one without area."""
    left, right = (np.asarray(boxes, np.float64) for boxes in (first, second))
    common = intersection(left, right)
    return ratio(common, area(left) + area(right) - common)


def intersection(first: Floats, second: Floats) -> Floats:
    """Common area of boxes in the last axis, (..., 4) and (..., 4), broadcast."""
    sides = np.minimum(first[..., 2:], second[..., 2:]) - np.maximum(first[..., :2], second[..., :2])
    return np.clip(sides, 0, None).prod(axis=-1)


def area(xyxy: Floats) -> Floats:
    """Area of (..., 4) boxes, 0 where a side is negative."""
    return np.clip(xyxy[..., 2:] - xyxy[..., :2], 0, None).prod(axis=-1)


def ratio(part: Floats, whole: Floats) -> Floats:
    """part / whole, 0 where there is no whole."""
    return np.divide(part, whole, out=np.zeros_like(part), where=whole > 0)
