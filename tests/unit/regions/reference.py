"""A simple reference for regions: OpenCV's labels of one mask, and NumPy's sums over them."""

from typing import Literal

import cv2
import numpy as np

from mining.arrays import FloatMap
from mining.boxes.boxes import Boxes
from mining.regions.extraction import normalise_map


def reference_boxes(
    activation: FloatMap, *, threshold: float, normalise: Literal["max", "minmax"] = "max", min_area_px: int = 4
) -> Boxes:
    """The expected result of `boxes_from_map`, to the bit."""
    level = normalise_map(activation, normalise)
    if level is None:
        return Boxes.empty()
    count, labels, stats, _ = cv2.connectedComponentsWithStats((level >= threshold).astype(np.uint8), connectivity=8)
    large = [region for region in range(1, count) if stats[region, cv2.CC_STAT_AREA] >= min_area_px]
    x, y, w, h, area = stats[large].astype(np.int64).reshape(-1, 5).T
    sums = np.array([level[labels == region].sum(dtype=np.float64) for region in large])
    peak = np.array([level[labels == region].max() for region in large], np.float32)
    return Boxes(
        np.stack([x, y, x + w, y + h], axis=1).astype(np.float32), peak, peak, (sums / area).astype(np.float32),
        np.ones(len(large), np.int32),
    ).best_first()  # fmt: skip
