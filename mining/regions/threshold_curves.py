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
from mining.regions.extraction import RegionScore, normalise_map, regions_of_normalised_map
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
        boxes: Boxes in map pixels, scored as `boxes_from_map` does, before any filter.
        curve: The best box at every threshold.
    """

    threshold: float
    boxes: Boxes
    curve: ThresholdCurve


class MapWithCurve:
    """The regions of one map at each of CURVE_THRESHOLDS and at one more threshold, found in one pass.

    Args:
        activation: (H, W) float32.
        threshold: In (0, 1); or how the threshold is chosen per map, which gives the nearest of CURVE_THRESHOLDS, or
            the last of them if the map suggests none.
        normalise: How the map is normalised, see `normalise_map`.
        score: By what boxes are scored, see `boxes_from_map`.

    Attributes:
        normalise: The same.

    Raises:
        MapError: The map holds NaN or infinity.
    """

    def __init__(
        self,
        activation: FloatMap,
        *,
        threshold: float | MapThreshold,
        normalise: Literal["max", "minmax"],
        score: RegionScore = "peak",
    ) -> None:
        self.normalise = normalise
        self._score = score
        self._threshold = threshold
        self._grid, self._at_grid = _grid_with(None if isinstance(threshold, str) else threshold)
        self._size = (activation.shape[1], activation.shape[0])
        self._level = normalise_map(activation, normalise)
        self._regions = regions_of_normalised_map(self._level, self._grid)

    def boxes_at(self, threshold: float) -> Boxes:
        """Return the boxes in map pixels at one of the thresholds, as `boxes_from_map` does.

        Raises:
            ValueError: It is none of them.
        """
        position = int(np.searchsorted(self._grid, np.float32(threshold)))
        if position == len(self._grid) or self._grid[position] != np.float32(threshold):
            raise ValueError(f"The map was not cut at {threshold}.")
        return self._regions.boxes_at(position, self._score)

    def extract(
        self,
        rate: Callable[[Boxes], tuple[NDArray[np.bool_], NDArray[np.float32]]],
        *,
        stretch: tuple[float, float] = (1.0, 1.0),
    ) -> BoxesWithCurve:
        """Return the boxes at the one threshold, and the best box at each of CURVE_THRESHOLDS.

        Args:
            rate: Maps n boxes in map pixels, scored as `RegionsAtThresholds.boxes` does, to (n,) bool, whether they
                pass the filters, and (n,) float32, by which the best box is chosen.
            stretch: Image pixels per map pixel, horizontally and vertically.
        """
        curve = self._curve(*rate(self._regions.boxes(self._score)))
        threshold = self._threshold
        if isinstance(threshold, str):
            threshold = _choose_threshold(curve, threshold, stretch)
        return BoxesWithCurve(threshold, self.boxes_at(threshold), curve)

    def _curve(self, passing: NDArray[np.bool_], score: NDArray[np.float32]) -> ThresholdCurve:
        regions = self._regions
        rows = regions.first_listed(passing, score)[self._at_grid]
        best = np.append(regions.xyxy, np.zeros((1, 4), np.int64), axis=0)[rows]
        otsu = entropy = 0.0
        if self._level is not None:
            histogram = grey_level_shares(self._level)
            otsu, entropy = otsu_threshold(histogram), entropy_threshold(histogram)
        return ThresholdCurve(self._size, best, regions.counts(passing)[self._at_grid], otsu, entropy)


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
