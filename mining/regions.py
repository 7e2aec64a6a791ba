"""From an activation map to boxes: normalise, threshold, connected regions."""

from typing import Literal

import cv2
import numpy as np
import numpy.typing as npt

from mining.boxes import Boxes
from mining.errors import MapError

FloatMap = npt.NDArray[np.float32]
_MIN_RANGE = 1e-6


def normalised(activation: FloatMap, how: Literal["max", "minmax"]) -> FloatMap | None:
    """The map brought to 0-1, or None for a map that says nothing (constant; nowhere positive).

    activation: (H, W) float32, any range.
    how: 'max' cuts negative activation to 0 and divides by the maximum; 'minmax' is mLDFR's eq. 9.
    Raises MapError when the map holds NaN or infinity.
    """
    lowest, highest = float(activation.min()), float(activation.max())
    if not (np.isfinite(lowest) and np.isfinite(highest)):
        raise MapError("The activation map holds NaN or infinity; the model's weights are broken or overflowed.")
    if highest - lowest <= _MIN_RANGE * max(abs(highest), abs(lowest)):
        return None
    if how == "max":
        if highest <= 0:
            return None
        lowest = 0.0
    return np.maximum((activation - np.float32(lowest)) / np.float32(highest - lowest), 0, dtype=np.float32)


def boxes_from_map(
    activation: FloatMap, *, threshold: float, normalise: Literal["max", "minmax"] = "max", min_area_px: int = 4
) -> Boxes:
    """Cut one box around each connected region of an activation map.

    activation: (H, W) float32, any range; a constant map gives no box.
    threshold: share of the normalised map, in (0, 1), that a region's pixels reach.
    min_area_px: regions of fewer pixels are left out.
    Gives xyxy in map pixels, half-open, highest peak first; n may be 0. The score is the peak.
    Regions are 8-connected. Raises MapError when the map holds NaN.
    """
    level = normalised(activation, normalise)
    if level is None:
        return Boxes.empty()
    count, found, stats, _ = cv2.connectedComponentsWithStats((level >= threshold).astype(np.uint8), connectivity=8)
    large = [r for r in range(1, count) if stats[r, cv2.CC_STAT_AREA] >= min_area_px]
    if not large:
        return Boxes.empty()
    labels: npt.NDArray[np.int32] = np.asarray(found, np.int32)
    sums = np.bincount(labels.ravel(), weights=level.ravel(), minlength=count)
    peaks = [_peak(level, labels, stats[r], r) for r in large]
    x, y, w, h, area = stats[large].T
    peak = np.array(peaks, np.float32)
    return Boxes(
        xyxy=np.stack([x, y, x + w, y + h], axis=1).astype(np.float32),
        score=peak,
        peak=peak,
        mean_activation=(sums[large] / area).astype(np.float32),
        merged_from=np.ones(len(large), np.int32),
    ).best_first()


def _peak(level: FloatMap, labels: npt.NDArray[np.int32], stat: npt.NDArray[np.int32], region: int) -> float:
    x, y, w, h = stat[:4]
    window = slice(y, y + h), slice(x, x + w)
    return float(level[window][labels[window] == region].max())
