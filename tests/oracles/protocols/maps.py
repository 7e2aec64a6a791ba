"""Checked maps and connected components, shared by the protocols."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from mining.arrays import Bools, Ints
from mining.errors import MapError
from mining.regions.extraction import validate_map


@dataclass(frozen=True)
class Components:
    """The n 4-connected regions of a mask, by their first pixel row by row.

    label: (H, W) int, 0 outside, 1 to n. xyxy: (n, 4) int64 px, half-open. pixels: (n,) int64.
    """

    label: Ints
    xyxy: Ints
    pixels: Ints


def finite_map(activation: ArrayLike) -> NDArray[np.floating]:
    """The map as an array. Raises MapError when it is no (H, W) floats, and when it holds NaN or infinity."""
    level = validate_map(activation)
    if not np.isfinite(level).all():
        raise MapError("The activation map holds NaN or infinity; the model's weights are broken or overflowed.")
    return level


def components(mask: Bools) -> Components:
    """The 4-connected regions of a mask (H, W)."""
    _, label, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=4)
    found, first = np.unique(label, return_index=True)
    in_order = found[np.argsort(first)]
    in_order = in_order[in_order > 0]
    new_label = np.zeros(len(stats), np.int64)
    new_label[in_order] = np.arange(1, len(in_order) + 1)
    x, y, width, height, pixels = stats[in_order].astype(np.int64).T
    return Components(new_label[label], np.stack([x, y, x + width, y + height], axis=1), pixels)
