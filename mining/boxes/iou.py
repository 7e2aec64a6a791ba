"""Intersection over union of boxes.

Boxes are xyxy and half-open: the width is x1 - x0, without the + 1 of some other tools.
"""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from mining.arrays import Float32s, Floats, jit


def iou_matrix(first: ArrayLike, second: ArrayLike) -> Floats:
    """Compute the IoU of each pair of boxes.

    Args:
        first: (n, 4) xyxy.
        second: (m, 4) xyxy.

    Returns:
        (n, m) float64 in [0, 1]; 0 for boxes without area.
    """
    left, right = (np.asarray(boxes, np.float64).reshape(-1, 4) for boxes in (first, second))
    return paired_iou(left[:, None], right)


def paired_iou(first: ArrayLike, second: ArrayLike) -> Floats:
    """Compute the IoU of boxes one by one.

    Args:
        first: (..., 4) xyxy.
        second: (..., 4) xyxy, broadcast against `first`.

    Returns:
        (...,) float64 in [0, 1]; 0 for boxes without area.
    """
    left, right = (np.asarray(boxes, np.float64) for boxes in (first, second))
    common = intersection(left, right)
    return ratio(common, area(left) + area(right) - common)


def intersection(first: Floats, second: Floats) -> Floats:
    """Compute the area of the intersection of (..., 4) xyxy boxes, which are broadcast."""
    sides = np.minimum(first[..., 2:], second[..., 2:]) - np.maximum(first[..., :2], second[..., :2])
    return np.clip(sides, 0, None).prod(axis=-1)


def area(xyxy: Floats) -> Floats:
    """Compute the area of (..., 4) xyxy boxes; 0 where a side is negative."""
    return np.clip(xyxy[..., 2:] - xyxy[..., :2], 0, None).prod(axis=-1)


def ratio(part: Floats, whole: Floats) -> Floats:
    """Divide `part` by `whole`, element by element; 0 where `whole` is 0."""
    return np.divide(part, whole, out=np.zeros_like(part), where=whole > 0)


def best_iou(boxes: ArrayLike, others: ArrayLike) -> Float32s:
    """Compute the highest IoU of each box with any of the others.

    Compiled, because for the few boxes of one map NumPy's calls take far longer than the arithmetic.

    Args:
        boxes: (n, 4) xyxy.
        others: (m, 4) xyxy.

    Returns:
        (n,) float32 in [0, 1]; 0 where there are no others.
    """
    left, right = (np.ascontiguousarray(some, np.float64).reshape(-1, 4) for some in (boxes, others))
    best: Float32s = _best_iou(left, right)
    return best


@jit
def _best_iou(boxes: Any, others: Any) -> Any:
    best = np.zeros(len(boxes), np.float32)
    for row in range(len(boxes)):
        x0, y0, x1, y1 = boxes[row]
        own = max(x1 - x0, 0.0) * max(y1 - y0, 0.0)
        highest = 0.0
        for other in range(len(others)):
            left, top, right, bottom = others[other]
            common = max(min(x1, right) - max(x0, left), 0.0) * max(min(y1, bottom) - max(y0, top), 0.0)
            union = own + max(right - left, 0.0) * max(bottom - top, 0.0) - common
            if union > 0.0:
                highest = max(highest, common / union)
        best[row] = highest
    return best
