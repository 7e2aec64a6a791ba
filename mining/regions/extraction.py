"""Convert an activation map to boxes: normalise, threshold, find connected regions; at one threshold or at many."""

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
RegionScore = Literal["peak", "area"]
_MIN_RANGE = 1e-6
_NO_REGION = -1
_SIDES = ("x0", "y0", "x1", "y1")


def normalise_map(activation: FloatMap, how: Literal["max", "minmax"]) -> FloatMap | None:
    """Normalise an activation map to 0-1.

    Args:
        activation: (H, W) float32, any range.
        how: 'max' sets negative activation to 0 and divides by the maximum; 'minmax' maps the range of the values to
            0-1.

    Returns:
        (H, W) float32; None for a constant map, and with 'max' also for a map without positive values.

    Raises:
        MapError: The map holds NaN or infinity.

    Reference:
        'minmax': mLDFR, eq. 9.
    """
    lowest, highest = float(activation.min()), float(activation.max())
    if not (np.isfinite(lowest) and np.isfinite(highest)):
        raise MapError("The activation map holds NaN or infinity: the weights of the model are damaged or overflow.")
    if highest - lowest <= _MIN_RANGE * max(abs(highest), abs(lowest)):
        return None
    if how == "max":
        if highest <= 0:
            return None
        lowest = 0.0
    level: FloatMap = np.subtract(activation, np.float32(lowest), dtype=np.float32)
    level /= np.float32(highest - lowest)  # in place, because allocating memory takes longer than the arithmetic
    return np.maximum(level, 0, out=level)


def boxes_from_map(
    activation: FloatMap,
    *,
    threshold: float,
    normalise: Literal["max", "minmax"] = "max",
    min_area_px: int = 4,
    score: RegionScore = "peak",
) -> Boxes:
    """Cut one box around each connected region of an activation map.

    Regions are 8-connected. Compiled at the first call, which takes seconds once; releases the GIL.

    Args:
        activation: (H, W) float32, any range; a constant map gives no box.
        threshold: Value in (0, 1) that the pixels of a region reach in the normalised map.
        normalise: How the map is normalised, see `normalise_map`.
        min_area_px: Regions of fewer pixels are dropped.
        score: By what boxes are scored: the peak of the region, or its number of pixels as a share of the largest
            region's.

    Returns:
        Boxes as xyxy in map pixels, half-open, highest score first; may be empty.

    Raises:
        MapError: The map holds NaN or infinity.
    """
    level = normalise_map(activation, normalise)
    if level is None:
        return Boxes.empty()
    regions = extract_components(level, np.array([threshold], np.float32), min_area_px)
    xyxy = np.column_stack([regions[side] for side in _SIDES]).astype(np.float32)
    peak, mean = regions["peak"], (regions["total"] / regions["area_px"]).astype(np.float32)
    scores = peak if score == "peak" else _share_of_largest(regions["area_px"])
    return Boxes(xyxy, scores, peak, mean, np.ones(len(regions), np.int32)).best_first()


def _share_of_largest(area_px: NDArray[Any]) -> NDArray[np.float32]:
    share: NDArray[np.float32] = (area_px / max(1, area_px.max(initial=0))).astype(np.float32)
    return share


# --- all thresholds at once ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class RegionsAtThresholds:
    """The regions of one map at T thresholds: n rows, each a region with the thresholds at which it is the same.

    Attributes:
        xyxy: (n, 4) int64, map pixels, half-open.
        area_px: (n,) int64, number of pixels.
        peak: (n,) float32 in 0-1, highest activation.
        mean_activation: (n,) float32 in 0-1.
        lowest: (n,) int64, index of the first threshold of each row.
        highest: (n,) int64, index of the last threshold of each row.
        largest: (T,) int64, row of the region with most pixels, of equally large ones the one that `boxes_from_map`
            lists first; -1 where there is no region.
        peak_holder: (T,) int64, row of the region with the highest peak, which `boxes_from_map` lists first; -1 where
            there is no region.
    """

    xyxy: Ints
    area_px: Ints
    peak: NDArray[np.float32]
    mean_activation: NDArray[np.float32]
    lowest: Ints
    highest: Ints
    largest: Ints
    peak_holder: Ints

    def boxes(self, score: RegionScore = "peak") -> Boxes:
        """Return the boxes of all n rows, in their order.

        Args:
            score: By what boxes are scored: the peak, or the number of pixels as a share of the largest of all rows.
        """
        return self._boxes_of(np.arange(len(self.peak)), score)

    def boxes_at(self, position: int, score: RegionScore = "peak") -> Boxes:
        """Return what `boxes_from_map` returns at the threshold with this index."""
        rows = np.flatnonzero((self.lowest <= position) & (position <= self.highest))
        return self._boxes_of(rows, score).best_first()

    def _boxes_of(self, rows: Ints, score: RegionScore) -> Boxes:
        peak = self.peak[rows]
        scores = peak if score == "peak" else _share_of_largest(self.area_px[rows])
        merged_from = np.ones(len(rows), np.int32)
        return Boxes(self.xyxy[rows].astype(np.float32), scores, peak, self.mean_activation[rows], merged_from)

    def first_listed(self, passing: NDArray[np.bool_], score: NDArray[np.float32] | None = None) -> Ints:
        """Find the row that `boxes_from_map` lists first at each threshold.

        Args:
            passing: (n,) bool, the rows to consider.
            score: (n,) float32, by which rows are listed instead of by their peaks.

        Returns:
            (T,) int64 row; -1 where there is none.
        """
        rows = np.flatnonzero(passing)
        score = self.peak if score is None else score
        first = _first_over_ranges(
            _ranks(self._keys(rows, score[rows])), self.lowest[rows], self.highest[rows], len(self.largest)
        )
        return np.append(rows, _NO_REGION)[first]

    def counts(self, passing: NDArray[np.bool_]) -> Ints:
        """Count the rows at each threshold.

        Args:
            passing: (n,) bool, the rows to count.

        Returns:
            (T,) int64.
        """
        starts = np.bincount(self.lowest[passing], minlength=len(self.largest))
        ends = np.bincount(self.highest[passing] + 1, minlength=len(self.largest) + 1)[:-1]
        return (starts - ends).cumsum()

    def _keys(self, rows: Ints, score: NDArray[np.float32]) -> tuple[NDArray[Any], ...]:
        """The sort keys of `Boxes.best_first`, the primary key last."""
        xyxy = self.xyxy[rows]
        return *-xyxy.T[::-1], area(xyxy.astype(np.float64)), self.mean_activation[rows], score

    def best_iou(self, true_boxes: ArrayLike) -> dict[RegionChoice, Floats]:
        """Compute the best IoU with any ground truth box at each threshold.

        Args:
            true_boxes: (m, 4) xyxy in map pixels, at least one.

        Returns:
            (T,) float64 for each choice of the region: the largest, the one with the highest peak, and the best of all;
            0 where there is no region.
        """
        best = iou_matrix(self.xyxy, true_boxes).max(axis=1)
        of_all = highest_over_ranges(best, self.lowest, self.highest, len(self.largest))
        or_none = np.append(best, 0.0)  # the last item stands for _NO_REGION
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
    """Find the regions of one map at all thresholds in one pass.

    Compiled at the first call, which takes seconds once; releases the GIL.

    Args:
        activation: (H, W) float, any range, converted to float32; a constant map has no regions.
        thresholds: (T,) ascending in [0, 1), values that the pixels of a region reach in the normalised map; converted
            to float32.
        normalise: How the map is normalised, see `normalise_map`.
        min_area_px: Regions of fewer pixels are dropped.

    Raises:
        MapError: The map is not (H, W) float, or holds NaN or infinity.
        ValueError: The thresholds do not ascend within [0, 1).
    """
    grid = validate_thresholds(thresholds).astype(np.float32)
    with np.errstate(over="ignore"):  # infinity is refused by normalise_map
        level = normalise_map(validate_map(activation).astype(np.float32), normalise)
    return regions_of_normalised_map(level, grid, min_area_px=min_area_px)


def regions_of_normalised_map(
    level: FloatMap | None, grid: NDArray[np.float32], *, min_area_px: int = 4
) -> RegionsAtThresholds:
    """Find the regions of a normalised map, as `regions_at_thresholds` does.

    Args:
        level: (H, W) float32 in 0-1; None has no regions.
        grid: (T,) thresholds, ascending in [0, 1).
        min_area_px: Regions of fewer pixels are dropped.
    """
    level = np.empty((0, 0), np.float32) if level is None else level
    regions = extract_components(level, grid, min_area_px)
    xyxy = np.column_stack([regions[side] for side in _SIDES]).astype(np.int64)
    mean = (regions["total"] / regions["area_px"]).astype(np.float32)
    ranges = regions["lowest"].astype(np.int64), regions["highest"].astype(np.int64)
    box_area = area(xyxy.astype(np.float64))
    ranks = _ranks((*-xyxy.T[::-1], box_area, mean, regions["peak"]))  # as `best_first` lists them
    return RegionsAtThresholds(
        xyxy, regions["area_px"].astype(np.int64), regions["peak"], mean, *ranges,
        largest=_first_over_ranges(_ranks((ranks, regions["area_px"])), *ranges, len(grid)),
        peak_holder=_first_over_ranges(ranks, *ranges, len(grid)),
    )  # fmt: skip


def validate_map(activation: ArrayLike) -> NDArray[np.floating]:
    """Convert a map to an array.

    Raises:
        MapError: It is not (H, W) float.
    """
    level = np.asarray(activation)
    if level.ndim != 2 or not level.size or not np.issubdtype(level.dtype, np.floating):
        raise MapError(f"The activation map is {level.dtype} of shape {level.shape}; expected (H, W) float.")
    return level


def validate_thresholds(thresholds: ArrayLike) -> Floats:
    """Convert thresholds to (T,) float64.

    Raises:
        ValueError: There is none, or they do not ascend within [0, 1).
    """
    grid = np.asarray(thresholds, np.float64)
    if grid.ndim != 1 or not len(grid) or not ((np.diff(grid) > 0).all() and grid[0] >= 0 and grid[-1] < 1):
        raise ValueError(f"The map thresholds are {grid}; expected at least one, ascending, in [0, 1).")
    return grid


def _ranks(keys: Sequence[NDArray[Any]]) -> Floats:
    """(n,) ranks from 0 to n - 1, highest for the highest keys; the last of the (n,) keys is the primary one."""
    ascending = np.lexsort(keys)
    ranks = np.empty(len(ascending))
    ranks[ascending] = np.arange(len(ascending))
    return ranks


def _first_over_ranges(ranks: Floats, lowest: Ints, highest: Ints, count: int) -> Ints:
    """(count,) the row with the highest rank whose range contains each threshold; -1 where there is none."""
    row_of = np.append(np.argsort(ranks), _NO_REGION)
    return row_of[highest_over_ranges(ranks, lowest, highest, count).astype(np.int64)]
