"""The box of a map at every threshold: what another threshold would have mined, kept beside what was mined.

A run cuts its boxes at one threshold. Which one is right depends on the photos and is known only once there is a truth;
so a run keeps, for each image and class, the box that CorLoc looks at, the best-scored one of those that pass the run's
filters, at each of 49 thresholds, and the thresholds that the map by itself suggests:

    Otsu      parts the map's 256 grey levels so that the variance between the two sides is largest (Otsu 1979)
    entropy   so that the entropies of the two sides add up to most (Kapur, Sahoo & Wong 1985)
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
    """What one map gives at T thresholds.

    map_size: width and height, px. xyxy: (T, 4) int64 map pixels, half-open; zeros where there is no box.
    boxes: (T,) int64, how many pass the filters. otsu, entropy: thresholds in 0-1, 0 for a map that says nothing.
    """

    map_size: tuple[int, int]
    xyxy: NDArray[np.int64]
    boxes: NDArray[np.int64]
    otsu: float
    entropy: float


@dataclass(frozen=True)
class BoxesWithCurve:
    """A map cut at one threshold, and its curve. boxes: in map pixels, scored by their peaks, before any filter."""

    threshold: float
    boxes: Boxes
    curve: ThresholdCurve


def extract_with_curve(
    activation: FloatMap,
    *,
    threshold: float | MapThreshold,
    normalise: Literal["max", "minmax"],
    passes: Callable[[Boxes], NDArray[np.bool_]],
    stretch: tuple[float, float] = (1.0, 1.0),
) -> BoxesWithCurve:
    """Cut a map as `boxes_from_map` does, and tell the best-scored box at each of CURVE_THRESHOLDS, in one pass.

    activation: (H, W) float32. threshold: in (0, 1), or how the map tells its own: the nearest of CURVE_THRESHOLDS,
    0.98 where it tells none. normalise: as in `boxes_from_map`.
    passes: which of n boxes in map pixels, scored by their peaks, are let through, (n,).
    stretch: image pixels a map pixel, across and down.
    Raises MapError when the map holds NaN or infinity.
    """
    grid, at_grid = _grid_with(None if isinstance(threshold, str) else threshold)
    level = normalise_map(activation, normalise)
    found = regions_of_normalised_map(level, grid)
    peak = found.peak
    boxes = Boxes(found.xyxy.astype(np.float32), peak, peak, found.mean_activation, np.ones(len(peak), np.int32))
    passing = passes(boxes)
    rows = found.first_listed(passing)[at_grid]
    best = np.append(found.xyxy, np.zeros((1, 4), np.int64), axis=0)[rows]
    height, width = activation.shape
    told = 0.0, 0.0
    if level is not None:
        greys = grey_level_shares(level)
        told = otsu_threshold(greys), entropy_threshold(greys)
    curve = ThresholdCurve((width, height), best, found.counts(passing)[at_grid], *told)
    if isinstance(threshold, str):
        threshold = _threshold_of_map(curve, threshold, stretch)
    position = int(np.searchsorted(grid, np.float32(threshold)))
    return BoxesWithCurve(threshold, found.boxes_at(position), curve)


@lru_cache(maxsize=1024)
def _grid_with(threshold: float | None) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """The thresholds of curves with one more, and where they stand among them."""
    grid = _GRID if threshold is None else np.union1d(_GRID, np.float32(threshold))
    return grid, np.searchsorted(grid, _GRID)


def _threshold_of_map(curve: ThresholdCurve, how: MapThreshold, stretch: tuple[float, float]) -> float:
    if how == "stability":
        xyxy = (curve.xyxy * np.array([*stretch, *stretch])).astype(np.float32)
        position = int(stable_positions(xyxy[None])[0])
    else:
        position = int(nearest_positions(np.array([getattr(curve, how)]), np.array(CURVE_THRESHOLDS))[0])
    return CURVE_THRESHOLDS[position]


def curve_row(curve: ThresholdCurve, *, image_id: int, category_id: int, width: int, height: int) -> dict[str, Any]:
    """A row of CURVE_SCHEMA."""
    return {
        "image_id": image_id, "category_id": category_id, "width": width, "height": height,
        "map_width": curve.map_size[0], "map_height": curve.map_size[1], "otsu": curve.otsu, "entropy": curve.entropy,
        "xyxy": curve.xyxy.ravel().tolist(), "boxes": np.minimum(curve.boxes, 255).tolist(),
    }  # fmt: skip
