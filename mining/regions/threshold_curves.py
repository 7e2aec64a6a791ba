"""Threshold curves: the box of a map at every threshold, stored beside the boxes at the run's own threshold.

Which threshold is best depends on the images and is known only once there is ground truth. So a run stores, for each
image and class, the box that CorLoc evaluates at each of 49 thresholds: the best-scored one of those that pass the
run's filters. It also stores two thresholds that are chosen per map: Otsu's and that of maximum entropy (see
`map_thresholds`).
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from mining.arrays import FloatMap
from mining.boxes.boxes import Boxes
from mining.config import MapThreshold
from mining.config.mine import CURVE_THRESHOLDS
from mining.regions.extraction import normalise_map, regions_of_normalised_map
from mining.regions.map_thresholds import (
    entropy_threshold,
    grey_level_shares,
    nearest_positions,
    otsu_threshold,
    stable_positions,
)

_GRID = np.array(CURVE_THRESHOLDS, np.float32)


@dataclass(frozen=True)
class ThresholdCurve:
    """The best box of one map at each of T thresholds.

    Attributes:
        map_size: Width and height in pixels.
        xyxy: (T, 4) int64, map pixels, half-open; zeros where there is no box.
        boxes: (T,) int64, number of boxes that pass the filters.
        otsu: Otsu's threshold, in 0-1; 0 for a constant map.
        entropy: Maximum-entropy threshold, in 0-1; 0 for a constant map.
    """

    map_size: tuple[int, int]
    xyxy: NDArray[np.int64]
    boxes: NDArray[np.int64]
    otsu: float
    entropy: float


@dataclass(frozen=True)
class BoxesWithCurve:
    """The boxes of a map at one threshold, and its curve.

    Attributes:
        threshold: The threshold, in (0, 1).
        boxes: Boxes in map pixels, scored by their peaks, before any filter.
        curve: The best box at every threshold.
    """

    threshold: float
    boxes: Boxes
    curve: ThresholdCurve


def extract_with_curve(
    activation: FloatMap,
    *,
    threshold: float | MapThreshold,
    normalise: Literal["max", "minmax"],
    rate: Callable[[Boxes], tuple[NDArray[np.bool_], NDArray[np.float32]]],
    stretch: tuple[float, float] = (1.0, 1.0),
) -> BoxesWithCurve:
    """Extract the boxes at one threshold and the best box at each of CURVE_THRESHOLDS, in one pass.

    Args:
        activation: (H, W) float32.
        threshold: In (0, 1); or how the threshold is chosen per map, which gives the nearest of CURVE_THRESHOLDS, or
            the last of them if the map suggests none.
        normalise: How the map is normalised, see `normalise_map`.
        rate: Maps n boxes in map pixels, scored by their peaks, to (n,) bool, whether they pass the filters, and (n,)
            float32, by which the best box is chosen.
        stretch: Image pixels per map pixel, horizontally and vertically.

    Raises:
        MapError: The map holds NaN or infinity.
    """
    grid, at_grid = _grid_with(None if isinstance(threshold, str) else threshold)
    level = normalise_map(activation, normalise)
    regions = regions_of_normalised_map(level, grid)
    peak = regions.peak
    boxes = Boxes(regions.xyxy.astype(np.float32), peak, peak, regions.mean_activation, np.ones(len(peak), np.int32))
    passing, score = rate(boxes)
    rows = regions.first_listed(passing, score)[at_grid]
    best = np.append(regions.xyxy, np.zeros((1, 4), np.int64), axis=0)[rows]
    height, width = activation.shape
    otsu = entropy = 0.0
    if level is not None:
        histogram = grey_level_shares(level)
        otsu, entropy = otsu_threshold(histogram), entropy_threshold(histogram)
    curve = ThresholdCurve((width, height), best, regions.counts(passing)[at_grid], otsu, entropy)
    if isinstance(threshold, str):
        threshold = _choose_threshold(curve, threshold, stretch)
    position = int(np.searchsorted(grid, np.float32(threshold)))
    return BoxesWithCurve(threshold, regions.boxes_at(position), curve)


@lru_cache(maxsize=1024)
def _grid_with(threshold: float | None) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """CURVE_THRESHOLDS together with one more threshold, and their indices in the result."""
    grid = _GRID if threshold is None else np.union1d(_GRID, np.float32(threshold))
    return grid, np.searchsorted(grid, _GRID)


def _choose_threshold(curve: ThresholdCurve, how: MapThreshold, stretch: tuple[float, float]) -> float:
    if how == "stability":
        xyxy = (curve.xyxy * np.array([*stretch, *stretch])).astype(np.float32)
        position = int(stable_positions(xyxy[None])[0])
    else:
        position = int(nearest_positions(np.array([getattr(curve, how)]), np.array(CURVE_THRESHOLDS))[0])
    return CURVE_THRESHOLDS[position]


def curve_row(curve: ThresholdCurve, *, image_id: int, category_id: int, width: int, height: int) -> dict[str, Any]:
    """Convert a curve to a row of CURVE_SCHEMA."""
    return {
        "image_id": image_id, "category_id": category_id, "width": width, "height": height,
        "map_width": curve.map_size[0], "map_height": curve.map_size[1], "otsu": curve.otsu, "entropy": curve.entropy,
        "xyxy": curve.xyxy.ravel().tolist(), "boxes": np.minimum(curve.boxes, 255).tolist(),
    }  # fmt: skip
