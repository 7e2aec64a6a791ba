"""Every threshold at once: the regions of one activation map at T thresholds, found in one pass.

What `mining.regions.boxes_from_map` gives at each threshold, to the bit: pixels of the normalised map that reach it,
8-connected, boxes half-open in map pixels. With N pairs of a map s and its true boxes B, regions(s, t) cut at the map
threshold t, and an IoU threshold d:

    BoxAcc(t, d)   = |{pairs with max over r in regions(s, t) and g in B of IoU(box of r, g) >= d}| / N
    MaxBoxAcc      = max over t of BoxAcc(t, 0.5), regions: the largest, or the one with the map's highest peak
    MaxBoxAccV2    = mean over d of 0.3, 0.5, 0.7 of (max over t of BoxAcc(t, d)), regions: all

These are the figures of wsoleval.py on the boxes that boxmine mines. They differ from the protocol's, for whose sake a
map is cut to 8 bits, sides count one pixel more, holes have boxes, a map without region has one, and the largest region
is the one whose outline encloses most. The last seldom tells, only where two regions are nearly of one size: in 22 of
30,090 masks of the protocol's 120 reference maps, without changing a figure. The sides do: they move MaxBoxAcc there by
one map.

The pass is a union-find over the pixels by falling level (Najman & Couprie, "Building the component tree in
quasi-linear time", 2006), cut short to the levels that thresholds ask for: a region is written down where it changes,
with the range of thresholds over which it then stays the same. What is best at each threshold is told from these
ranges. The time therefore depends on pixels and on changes of regions, little on the number of thresholds.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mining.boxes import Boxes
from mining.compiled import compiled
from mining.overlap import Floats, area, iou_matrix
from mining.regions import normalised
from mining.scoring.accuracy import AccuracyAtThresholds, checked_boxes, checked_thresholds
from mining.scoring.maps import checked_map
from mining.scoring.wsoleval import threshold_grid

Regions = Literal["largest", "peak", "all"]
Ints = NDArray[np.int64]

_NO_REGION = -1
_CELLS = 4096  # a power of two, so that a float times it is exact
_ONE = np.uintp(1)  # positions are unsigned where time counts: Numba asks every other one for its sign
_PIXEL = np.dtype([("x", np.uint32), ("y", np.uint32), ("value", np.float32)], align=True)
_REGION = np.dtype(
    [
        *((name, np.uint32) for name in ("parent", "area_px", "x0", "y0", "x1", "y1")),
        *((name, np.int32) for name in ("state", "changed_at", "lowest", "highest")),
        ("total", np.float64),
        ("peak", np.float32),
    ],
    align=True,
)


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

    def best_iou(self, true_boxes: ArrayLike) -> dict[Regions, Floats]:
        """(T,) the best IoU at each threshold with any of (m, 4) true boxes in map pixels, m >= 1; 0 without a region.

        Of the largest region's box, of the box of the region with the highest peak, and of the best of all boxes.
        """
        best = iou_matrix(self.xyxy, true_boxes).max(axis=1)
        of_all = _highest_over_ranges(best, self.lowest, self.highest, len(self.largest))
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
    grid = checked_thresholds(thresholds).astype(np.float32)
    with np.errstate(over="ignore"):  # infinity is refused next
        level = normalised(checked_map(activation).astype(np.float32), normalise)
    if level is None:
        level = np.empty((0, 0), np.float32)
    height, width = level.shape
    pixels, ends = _pixels_by_falling_level(level, grid)
    found = _swept(pixels, ends, height, width, min_area_px)
    xyxy = np.column_stack([found[side] for side in ("x0", "y0", "x1", "y1")]).astype(np.int64)
    mean = (found["total"] / found["area_px"]).astype(np.float32)
    ranges = found["lowest"].astype(np.int64), found["highest"].astype(np.int64)
    box_area = area(xyxy.astype(np.float64))
    listed = _ranks((*-xyxy.T[::-1], box_area, mean, found["peak"]))  # as `best_first` lists them
    return RegionsAtThresholds(
        xyxy, found["area_px"].astype(np.int64), found["peak"], mean, *ranges,
        largest=_first_over_ranges(_ranks((listed, found["area_px"])), *ranges, len(grid)),
        peak_holder=_first_over_ranges(listed, *ranges, len(grid)),
    )  # fmt: skip


class RegionAccuracy(AccuracyAtThresholds[Regions]):
    """MaxBoxAcc and MaxBoxAccV2 of boxmine's own boxes, map after map, of "largest", "peak" and "all" regions."""

    def __init__(
        self,
        thresholds: ArrayLike | None = None,
        *,
        normalise: Literal["max", "minmax"] = "max",
        min_area_px: int = 4,
    ) -> None:
        """thresholds: (T,) ascending in [0, 1), by default a thousand. Raises ValueError otherwise.

        normalise, min_area_px: as in `boxes_from_map`.
        """
        super().__init__(threshold_grid() if thresholds is None else thresholds, ("largest", "peak", "all"))
        self.normalise = normalise
        self.min_area_px = min_area_px

    def add(self, activation: ArrayLike, true_boxes: ArrayLike, image_size: tuple[float, float]) -> None:
        """Count one image, or one pair of an image and a class.

        activation: (H, W) float, any range; its pixels are stretched over the image as they are.
        true_boxes: (m, 4) xyxy in pixels of the image, half-open, m >= 1; one without area is found by no box.
        image_size: width and height of the image in pixels.
        Raises MapError for a map, ScoringError for boxes or a size that cannot be used; nothing is counted then.
        """
        truth = checked_boxes(true_boxes, image_size)
        found = regions_at_thresholds(
            activation, self.thresholds, normalise=self.normalise, min_area_px=self.min_area_px
        )  # fmt: skip
        height, width = np.shape(activation)
        self.count(found.best_iou(truth * np.tile([width / image_size[0], height / image_size[1]], 2)))

    def max_box_acc(self, regions: Literal["largest", "peak"] = "largest") -> float:
        """MaxBoxAcc in [0, 1]: IoU 0.5, one region a map."""
        return self._best_at_half(regions)

    def max_box_acc_v2(self) -> float:
        """MaxBoxAccV2 in [0, 1]: all regions, mean over IoU 0.3, 0.5 and 0.7."""
        return self._mean_of_best("all")


# --- within ----------------------------------------------------------------------------------------------------------


def _ranks(keys: Sequence[NDArray[Any]]) -> Floats:
    """(n,) 0 to n - 1, the highest for the row with the highest values; the last of the keys (n,) counts first."""
    ascending = np.lexsort(keys)
    ranks = np.empty(len(ascending))
    ranks[ascending] = np.arange(len(ascending))
    return ranks


def _first_over_ranges(ranks: Floats, lowest: Ints, highest: Ints, count: int) -> Ints:
    """(count,) the row with the highest rank of those whose range holds each threshold, or -1."""
    row_of = np.append(np.argsort(ranks), _NO_REGION)
    return row_of[_highest_over_ranges(ranks, lowest, highest, count).astype(np.int64)]


# --- within, compiled ------------------------------------------------------------------------------------------------


@compiled
def _pixels_by_falling_level(level: Any, thresholds: Any) -> Any:
    """The pixels that reach a threshold, by the highest one they reach, falling, then by place.

    level: (H, W) float32 >= 0. thresholds: (T,) float32 ascending.
    Gives (p,) _PIXEL and (T + 1,) int64, how many pixels reach each threshold, and 0.
    """
    height, width = level.shape
    up_to, and_none = _thresholds_up_to_cells(thresholds), np.append(thresholds, np.float32(np.inf))
    reached = np.empty((height, width), np.int32)
    ends = np.zeros(len(thresholds) + 1, np.int64)
    for y in range(height):
        for x in range(width):
            count = _thresholds_up_to(level[y, x], and_none, up_to)
            reached[y, x] = count
            ends[count] += 1
    higher = 0
    for count in range(len(thresholds), -1, -1):
        higher, ends[count] = higher + ends[count], higher
    pixels = np.empty(ends[0], _PIXEL)
    place = ends.copy()
    for y in range(height):
        for x in range(width):
            count = reached[y, x]
            if count:
                pixel = pixels[place[count]]
                pixel.x, pixel.y, pixel.value = x, y, level[y, x]
                place[count] += 1
    return pixels, ends


@compiled
def _thresholds_up_to(value: Any, thresholds: Any, up_to: Any) -> Any:
    """How many thresholds are at most the value; behind them stands infinity."""
    cell = int(value * np.float32(_CELLS))
    fewest, most = up_to[cell], up_to[cell + 1]
    while most - fewest > 1:  # not where thresholds are further apart than cells; the last step needs no branch
        middle = (fewest + most) // 2
        if thresholds[middle] <= value:
            fewest = middle + 1
        else:
            most = middle
    return fewest + (thresholds[fewest] <= value)


@compiled
def _thresholds_up_to_cells(thresholds: Any) -> Any:
    """How many thresholds are at most k / _CELLS, for k from 0 to _CELLS, and how many there are."""
    counts = np.full(_CELLS + 2, len(thresholds), np.int32)
    count = 0
    for cell in range(_CELLS + 1):
        while count < len(thresholds) and thresholds[count] * np.float32(_CELLS) <= cell:
            count += 1
        counts[cell] = count
    return counts


@compiled
def _swept(pixels: Any, ends: Any, height: int, width: int, min_area_px: int) -> Any:
    """(n,) _REGION, what regions became as the pixels were added threshold by threshold, the highest first."""
    stride = np.uintp(width + 2)
    # 0 where no pixel was added; with a border, so that every pixel has eight neighbours
    region_of = np.zeros((height + 2) * (width + 2), np.uint32)
    # two regions never begin side by side
    regions = np.empty(1 + ((height + 1) // 2) * ((width + 1) // 2), _REGION)
    changed = np.empty(len(regions), np.uint32)
    states = np.empty(len(pixels), _REGION)
    begun = written = 0
    for threshold in range(len(ends) - 2, -1, -1):
        changes = 0
        for pixel in pixels[ends[threshold + 1] : ends[threshold]]:
            x, y = np.uintp(pixel.x), np.uintp(pixel.y)
            place = (y + _ONE) * stride + x + _ONE
            near = _around(region_of, place, stride)
            region = max(near)
            if region == 0:
                begun += 1
                region = np.uint32(begun)
                _begin(regions[region], region)
            several = False  # asked here: in a function of its own it takes twice as long
            for other in near:
                several |= (other != 0) & (other != region)
            region = _root(regions, region)
            if several:
                _join_all(regions, near, region, states, threshold)
            _add(regions[region], x, y, pixel.value)
            region_of[place] = region
            if regions[region].changed_at != threshold:
                regions[region].changed_at = threshold
                changed[changes] = region
                changes += 1
        for region in changed[:changes]:
            if regions[region].parent == region:
                _end_state(regions[region], states, threshold)
                if regions[region].area_px >= min_area_px:
                    regions[region].state, regions[region].highest = written, threshold
                    states[written] = regions[region]
                    written += 1
    return states[:written]


@compiled
def _around(region_of: Any, place: Any, stride: Any) -> Any:
    above, below = place - stride, place + stride
    return (
        region_of[above - _ONE], region_of[above], region_of[above + _ONE],
        region_of[place - _ONE], region_of[place + _ONE],
        region_of[below - _ONE], region_of[below], region_of[below + _ONE],
    )  # fmt: skip


@compiled
def _begin(new: Any, itself: Any) -> None:
    new.parent, new.area_px, new.total, new.peak = itself, 0, 0.0, 0.0
    new.x0 = new.y0 = np.uint32(0xFFFFFFFF)
    new.x1 = new.y1 = 0
    new.lowest, new.state, new.changed_at = 0, _NO_REGION, _NO_REGION


@compiled
def _add(region: Any, x: Any, y: Any, value: Any) -> None:
    # asked rather than assigned: a pixel seldom moves a side, and writing takes longer
    if x < region.x0:
        region.x0 = x
    if x >= region.x1:
        region.x1 = x + _ONE
    if y < region.y0:
        region.y0 = y
    if y >= region.y1:
        region.y1 = y + _ONE
    if value > region.peak:
        region.peak = value
    region.area_px += 1
    region.total += value


@compiled
def _join_all(regions: Any, near: Any, root: Any, states: Any, threshold: int) -> None:
    """Make the regions in `near` a part of the region `root`."""
    for other in near:
        if other != 0:
            leaf = _root(regions, other)
            if leaf != root:
                _end_state(regions[leaf], states, threshold)
                _join(regions[root], regions[leaf], root)


@compiled
def _root(regions: Any, region: Any) -> Any:
    while regions[region].parent != region:
        regions[region].parent = regions[regions[region].parent].parent
        region = regions[region].parent
    return region


@compiled
def _join(whole: Any, part: Any, root: Any) -> None:
    part.parent = root
    whole.x0, whole.y0 = min(whole.x0, part.x0), min(whole.y0, part.y0)
    whole.x1, whole.y1 = max(whole.x1, part.x1), max(whole.y1, part.y1)
    whole.peak = max(whole.peak, part.peak)
    whole.area_px += part.area_px
    whole.total += part.total


@compiled
def _end_state(region: Any, states: Any, threshold: int) -> None:
    if region.state != _NO_REGION:
        states[region.state].lowest = threshold + 1
        region.state = _NO_REGION


@compiled
def _highest_over_ranges(values: Any, lowest: Any, highest: Any, count: int) -> Any:
    """(count,) float64, at each threshold the highest of the values (n,) whose range holds it; -1 where none does.

    Each range is covered by two of a power of two, which may overlap; what is best of these goes down to their halves.
    """
    powers = 1
    while 1 << powers <= count:
        powers += 1
    best = np.full((powers, count), float(_NO_REGION))
    for value, low, high in zip(values, lowest, highest):  # noqa: B905
        power = 0
        while 2 << power <= high - low + 1:
            power += 1
        for position in (low, high + 1 - (1 << power)):
            best[power, position] = max(best[power, position], value)
    for power in range(powers - 1, 0, -1):
        half, whole = 1 << (power - 1), count + 1 - (1 << power)
        for position in range(whole):
            best[power - 1, position] = max(best[power - 1, position], best[power, position])
        for position in range(whole):
            best[power - 1, position + half] = max(best[power - 1, position + half], best[power, position])
    return best[0]
