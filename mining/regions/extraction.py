"""From an activation map to boxes: normalise, threshold, connected regions; at one threshold or at many at once."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mining.arrays import FloatMap, Floats, Ints
from mining.boxes.boxes import Boxes
from mining.boxes.iou import area, iou_matrix
from mining.errors import MapError
from mining.regions.components import extract_components, highest_over_ranges

RegionChoice = Literal["largest", "peak", "all"]
_MIN_RANGE = 1e-6
_NO_REGION = -1
_SIDES = ("x0", "y0", "x1", "y1")


def normalise_map(activation: FloatMap, how: Literal["max", "minmax"]) -> FloatMap | None:
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
    level: FloatMap = np.subtract(activation, np.float32(lowest), dtype=np.float32)
    level /= np.float32(highest - lowest)  # in place: fresh memory takes longer than the arithmetic
    return np.maximum(level, 0, out=level)


def boxes_from_map(
    activation: FloatMap, *, threshold: float, normalise: Literal["max", "minmax"] = "max", min_area_px: int = 4
) -> Boxes:
    """Cut one box around each connected region of an activation map.

    activation: (H, W) float32, any range; a constant map gives no box.
    threshold: share of the normalised map, in (0, 1), that a region's pixels reach.
    min_area_px: regions of fewer pixels are left out.
    Gives xyxy in map pixels, half-open, highest peak first; n may be 0. The score is the peak.
    Regions are 8-connected. Compiled at the first call, which takes seconds once; runs without Python's lock.
    Raises MapError when the map holds NaN.
    """
    level = normalise_map(activation, normalise)
    if level is None:
        return Boxes.empty()
    found = extract_components(level, np.array([threshold], np.float32), min_area_px)
    xyxy = np.column_stack([found[side] for side in _SIDES]).astype(np.float32)
    peak, mean = found["peak"], (found["total"] / found["area_px"]).astype(np.float32)
    return Boxes(xyxy, peak, peak, mean, np.ones(len(found), np.int32)).best_first()


# --- all thresholds at once ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class RegionsAtThresholds:
    """The regions of one map at T thresholds: n states of regions, each with the thresholds at which it is so.

    xyxy: (n, 4) int64 map pixels, half-open. area_px: (n,) int64.
    peak, mean_activation: (n,) float32, 0-1.
    lowest, highest: (n,) int64, the positions of the first and the last threshold at which the region is so.
    largest: (T,) int64, the row of the region with most pixels, of equals the one that `boxes_from_map` lists first;
        -1 where there is no region.
    peak_holder: (T,) int64, the row of the region with the highest peak, which is the one that `boxes_from_map` lists
        first; -1 where there is no region.
    """

    xyxy: Ints
    area_px: Ints
    peak: NDArray[np.float32]
    mean_activation: NDArray[np.float32]
    lowest: Ints
    highest: Ints
    largest: Ints
    peak_holder: Ints

    def boxes_at(self, position: int) -> Boxes:
        """What `boxes_from_map` gives at the threshold of that position."""
        rows = np.flatnonzero((self.lowest <= position) & (position <= self.highest))
        xyxy, peak = self.xyxy[rows].astype(np.float32), self.peak[rows]
        merged_from = np.ones(len(rows), np.int32)
        return Boxes(xyxy, peak, peak, self.mean_activation[rows], merged_from).best_first()

    def first_listed(self, passing: NDArray[np.bool_]) -> Ints:
        """(T,) of the rows that pass, (n,), the one that `boxes_from_map` lists first at each threshold, or -1."""
        rows = np.flatnonzero(passing)
        first = _first_over_ranges(_ranks(self._keys(rows)), self.lowest[rows], self.highest[rows], len(self.largest))
        return np.append(rows, _NO_REGION)[first]

    def counts(self, passing: NDArray[np.bool_]) -> Ints:
        """(T,) how many of the rows that pass, (n,), there are at each threshold."""
        begun = np.bincount(self.lowest[passing], minlength=len(self.largest))
        ended = np.bincount(self.highest[passing] + 1, minlength=len(self.largest) + 1)[:-1]
        return (begun - ended).cumsum()

    def _keys(self, rows: Ints) -> tuple[NDArray[Any], ...]:
        """What `best_first` lists by, the first key last."""
        xyxy = self.xyxy[rows]
        return *-xyxy.T[::-1], area(xyxy.astype(np.float64)), self.mean_activation[rows], self.peak[rows]

    def best_iou(self, true_boxes: ArrayLike) -> dict[RegionChoice, Floats]:
        """(T,) the best IoU at each threshold with any of (m, 4) true boxes in map pixels, m >= 1; 0 without a region.

        Of the largest region's box, of the box of the region with the highest peak, and of the best of all boxes.
        """
        best = iou_matrix(self.xyxy, true_boxes).max(axis=1)
        of_all = highest_over_ranges(best, self.lowest, self.highest, len(self.largest))
        or_none = np.append(best, 0.0)  # the last is the row of _NO_REGION
        return {
            "largest": or_none[self.largest], "peak": or_none[self.peak_holder], "all": np.maximum(of_all, 0)
        }  # fmt: skip


def regions_at_thresholds(
    activation: ArrayLike,
    thresholds: ArrayLike,
    *,
    normalise: Literal["max", "minmax"] = "max",
    min_area_px: int = 4,
) -> RegionsAtThresholds:
    """Find the regions of one map at all thresholds at once.

    activation: (H, W) float, any range, taken as float32; a constant map has no regions.
    thresholds: (T,) ascending in [0, 1), shares of the normalised map that a region's pixels reach, taken as float32.
    normalise, min_area_px: as in `boxes_from_map`.
    Compiled at the first call, which takes seconds once; runs without Python's lock.
    Raises MapError when the map is no (H, W) floats or holds NaN or infinity, ValueError for other thresholds.
    """
    grid = validate_thresholds(thresholds).astype(np.float32)
    with np.errstate(over="ignore"):  # infinity is refused next
        level = normalise_map(validate_map(activation).astype(np.float32), normalise)
    return regions_of_normalised_map(level, grid, min_area_px=min_area_px)


def regions_of_normalised_map(
    level: FloatMap | None, grid: NDArray[np.float32], *, min_area_px: int = 4
) -> RegionsAtThresholds:
    """`regions_at_thresholds` of a map that is normalised. grid: (T,) ascending in [0, 1)."""
    level = np.empty((0, 0), np.float32) if level is None else level
    found = extract_components(level, grid, min_area_px)
    xyxy = np.column_stack([found[side] for side in _SIDES]).astype(np.int64)
    mean = (found["total"] / found["area_px"]).astype(np.float32)
    ranges = found["lowest"].astype(np.int64), found["highest"].astype(np.int64)
    box_area = area(xyxy.astype(np.float64))
    listed = _ranks((*-xyxy.T[::-1], box_area, mean, found["peak"]))  # as `best_first` lists them
    return RegionsAtThresholds(
        xyxy, found["area_px"].astype(np.int64), found["peak"], mean, *ranges,
        largest=_first_over_ranges(_ranks((listed, found["area_px"])), *ranges, len(grid)),
        peak_holder=_first_over_ranges(listed, *ranges, len(grid)),
    )  # fmt: skip


def validate_map(activation: ArrayLike) -> NDArray[np.floating]:
    """The map as an array. Raises MapError when it is no (H, W) floats."""
    level = np.asarray(activation)
    if level.ndim != 2 or not level.size or not np.issubdtype(level.dtype, np.floating):
        raise MapError(f"The activation map is {level.dtype} of shape {level.shape}; expected (H, W) floats.")
    return level


def validate_thresholds(thresholds: ArrayLike) -> Floats:
    """(T,) float64. Raises ValueError when they are none, do not ascend, or leave [0, 1)."""
    grid = np.asarray(thresholds, np.float64)
    if grid.ndim != 1 or not len(grid) or not ((np.diff(grid) > 0).all() and grid[0] >= 0 and grid[-1] < 1):
        raise ValueError(f"Map thresholds are {grid}; expected at least one, ascending, in [0, 1).")
    return grid


def _ranks(keys: Sequence[NDArray[Any]]) -> Floats:
    """(n,) 0 to n - 1, the highest for the row with the highest values; the last of the keys (n,) counts first."""
    ascending = np.lexsort(keys)
    ranks = np.empty(len(ascending))
    ranks[ascending] = np.arange(len(ascending))
    return ranks


def _first_over_ranges(ranks: Floats, lowest: Ints, highest: Ints, count: int) -> Ints:
    """(count,) the row with the highest rank of those whose range holds each threshold, or -1."""
    row_of = np.append(np.argsort(ranks), _NO_REGION)
    return row_of[highest_over_ranges(ranks, lowest, highest, count).astype(np.int64)]
