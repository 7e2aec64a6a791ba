"""Connected components of a map at many thresholds in one pass: union-find over runs of pixels, highest level first.

A run is a sequence of adjacent pixels in a row that reach the same thresholds. Runs are added from the highest
threshold to the lowest; a region is recorded whenever it changes, with the range of thresholds over which it then stays
the same. The time therefore depends on the pixels, the runs and the changes of regions, and little on the number of
thresholds.

Reference:
    Najman, Couprie: Building the component tree in quasi-linear time (2006), restricted to the given thresholds.
"""

import threading
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mining.arrays import jit

_NO_STATE = -1
_CELLS = 4096  # a power of two, so that multiplying a float by it is exact
RUN = np.dtype(
    [("total", np.float64), ("peak", np.float32), *((name, np.uint32) for name in ("x0", "x1", "y", "reached"))],
    align=True,
)
REGION = np.dtype(
    [
        *((name, np.uint32) for name in ("parent", "area_px", "x0", "y0", "x1", "y1")),
        *((name, np.int32) for name in ("state", "changed_at", "lowest", "highest")),
        ("total", np.float64),
        ("peak", np.float32),
    ],
    align=True,
)


class _Workspace(threading.local):
    """Arrays that each thread reuses: getting new pages from the system takes longer than finding the regions."""

    def __init__(self) -> None:
        self._arrays: dict[str, NDArray[Any]] = {}

    def get(self, name: str, count: int, dtype: Any) -> NDArray[Any]:
        """An array of `count` items with arbitrary content."""
        if name not in self._arrays or len(self._arrays[name]) < count:
            self._arrays[name] = np.empty(count + count // 4, dtype)
        return self._arrays[name][:count]


_workspace = _Workspace()


def extract_components(level: NDArray[np.float32], thresholds: NDArray[np.float32], min_area_px: int) -> NDArray[Any]:
    """Find the 8-connected regions of a map at each threshold.

    Compiled at the first call, which takes seconds once; releases the GIL.

    Args:
        level: (H, W) float32, at least 0.
        thresholds: (T,) ascending.
        min_area_px: Regions of fewer pixels are dropped.

    Returns:
        (n,) REGION, one item for each region and each range of thresholds over which it stays the same, highest
        threshold first; `lowest` and `highest` are the indices of the first and last threshold of the range.
    """
    height, width = level.shape
    found = _workspace.get("found", height * width, RUN)
    count, ends = _runs(level, thresholds, found)
    runs = _workspace.get("runs", count, RUN)
    _by_falling_level(found[:count], ends, runs)
    region_of = _workspace.get("region_of", (height + 2) * (width + 2), np.uint32)
    rooms = (
        _workspace.get(name, 1 + count, kind)
        for name, kind in (("regions", REGION), ("changed", np.uint32), ("states", REGION))
    )
    return np.array(_extract_components(runs, ends, height, width, min_area_px, region_of, *rooms))


@jit
def _runs(level: Any, thresholds: Any, found: Any) -> Any:
    """Write the runs that reach a threshold into `found`, row by row.

    Returns their number, and (T + 1,) int64, how many reach more than 0, 1, ... T thresholds.
    """
    height, width = level.shape
    up_to, and_none = _thresholds_up_to_cells(thresholds), np.append(thresholds, np.float32(np.inf))
    lowest = np.append(np.float32(-1), thresholds)  # value of each number of reached thresholds
    ends = np.zeros(len(thresholds) + 1, np.int64)
    count = 0
    for y in range(height):
        x = 0
        while x < width:
            first, value = x, level[y, x]
            reached = _thresholds_up_to(value, and_none, up_to)
            least, beyond = lowest[reached], and_none[reached]
            total, peak = np.float64(value), value
            x += 1
            while x < width:
                value = level[y, x]
                if value < least or value >= beyond:
                    break
                total += value
                peak = max(peak, value)
                x += 1
            if reached:
                run = found[count]
                run.x0, run.x1, run.y, run.reached, run.total, run.peak = first, x, y, reached, total, peak
                ends[reached] += 1
                count += 1
    higher = 0
    for reached in range(len(thresholds), -1, -1):
        higher, ends[reached] = higher + ends[reached], higher
    return count, ends


@jit
def _by_falling_level(found: Any, ends: Any, runs: Any) -> None:
    """Sort runs by the number of thresholds that they reach, descending, then by position."""
    position = ends.copy()
    for run in found:
        runs[position[run.reached]] = run
        position[run.reached] += 1


@jit
def _thresholds_up_to(value: Any, thresholds: Any, up_to: Any) -> Any:
    """Number of thresholds that are at most the value; `thresholds` ends with infinity."""
    cell = int(value * np.float32(_CELLS))
    fewest, most = up_to[cell], up_to[cell + 1]
    while most - fewest > 1:  # skipped if thresholds are further apart than cells; the last step needs no branch
        middle = (fewest + most) // 2
        if thresholds[middle] <= value:
            fewest = middle + 1
        else:
            most = middle
    return fewest + (thresholds[fewest] <= value)


@jit
def _thresholds_up_to_cells(thresholds: Any) -> Any:
    """Number of thresholds that are at most k / _CELLS, for k from 0 to _CELLS; then the number of all of them."""
    counts = np.full(_CELLS + 2, len(thresholds), np.int32)
    count = 0
    for cell in range(_CELLS + 1):
        while count < len(thresholds) and thresholds[count] * np.float32(_CELLS) <= cell:
            count += 1
        counts[cell] = count
    return counts


@jit
def _extract_components(
    runs: Any, ends: Any, height: int, width: int, min_area_px: int, region_of: Any, regions: Any, changed: Any,
    states: Any,
) -> Any:  # fmt: skip
    stride = width + 2
    # 0 = no region yet; with a border, so that every run has neighbours on all sides
    region_of[:] = 0
    written = 0
    for threshold in range(len(ends) - 2, -1, -1):
        first = ends[threshold + 1]
        for number in range(first, ends[threshold]):
            run = runs[number]
            region = np.uint32(number + 1)
            _init_region(regions[region], region, run)
            place = (run.y + 1) * stride + run.x0 + 1
            length = run.x1 - run.x0
            beside = region_of[place - 1 : place + length + 1 : length + 1]
            above = region_of[place - stride - 1 : place - stride + length + 1]
            below = region_of[place + stride - 1 : place + stride + length + 1]
            region = _join_between(regions, region, beside, states, threshold)
            region = _join_between(regions, region, above, states, threshold)
            region = _join_between(regions, region, below, states, threshold)
            region_of[place : place + length] = region
            changed[number - first] = region
        for region in changed[: ends[threshold] - first]:
            if regions[region].parent == region and regions[region].changed_at != threshold:
                regions[region].changed_at = threshold
                _end_state(regions[region], states, threshold)
                if regions[region].area_px >= min_area_px:
                    regions[region].state, regions[region].highest = written, threshold
                    states[written] = regions[region]
                    written += 1
    return states[:written]


@jit
def _init_region(new: Any, itself: Any, run: Any) -> None:
    new.parent, new.area_px, new.total, new.peak = itself, run.x1 - run.x0, run.total, run.peak
    new.x0, new.y0, new.x1, new.y1 = run.x0, run.y, run.x1, run.y + 1
    new.lowest, new.state, new.changed_at = 0, _NO_STATE, _NO_STATE


@jit
def _join_between(regions: Any, root: Any, near: Any, states: Any, threshold: int) -> Any:
    """Merge `root` with the regions of the pixels `near`; returns the largest of them, which is the new root."""
    last = np.uint32(0)
    for other in near:
        if other != last:  # mostly the same as the previous one
            last = other
            leaf = _root(regions, other) if other else root
            if leaf != root:
                if regions[leaf].area_px > regions[root].area_px:
                    root, leaf = leaf, root
                _end_state(regions[leaf], states, threshold)
                _join(regions[root], regions[leaf], root)
    return root


@jit
def _root(regions: Any, region: Any) -> Any:
    while regions[region].parent != region:
        regions[region].parent = regions[regions[region].parent].parent
        region = regions[region].parent
    return region


@jit
def _join(whole: Any, part: Any, root: Any) -> None:
    part.parent = root
    whole.x0, whole.y0 = min(whole.x0, part.x0), min(whole.y0, part.y0)
    whole.x1, whole.y1 = max(whole.x1, part.x1), max(whole.y1, part.y1)
    whole.peak = max(whole.peak, part.peak)
    whole.area_px += part.area_px
    whole.total += part.total


@jit
def _end_state(region: Any, states: Any, threshold: int) -> None:
    if region.state != _NO_STATE:
        states[region.state].lowest = threshold + 1
        region.state = _NO_STATE


@jit
def highest_over_ranges(values: Any, lowest: Any, highest: Any, count: int) -> Any:
    """Find the highest value at each threshold.

    Each range is covered by two ranges whose length is a power of two, which may overlap; the maximum of each of those
    is passed on to its halves.

    Args:
        values: (n,) at least 0.
        lowest: (n,) index of the first threshold of each value's range.
        highest: (n,) index of the last threshold of each value's range.
        count: Number of thresholds.

    Returns:
        (count,) float64; -1 where no range contains the threshold.
    """
    powers = 1
    while 1 << powers <= count:
        powers += 1
    best = np.full((powers, count), float(_NO_STATE))
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
