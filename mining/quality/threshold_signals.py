"""Signals from a run's threshold curves: how a box changes with the threshold."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from mining.arrays import Floats, Ints
from mining.boxes.iou import paired_iou
from mining.errors import RunError
from mining.quality.box_arrays import BoxArrays, column_floats
from mining.runs.run import Run
from mining.storage.parquet import open_parquet

STABILITY_REACH = 0.2
REGIONS_REACH = 0.3
MIN_IOU_ON_CURVE = 0.5
_PAIRS_PER_BLOCK = 50_000  # bounds memory: one pair needs 49 boxes


def threshold_signals(run: Run, boxes: BoxArrays) -> dict[str, Floats]:
    """Compare each box with the best box of its map at other thresholds.

    Args:
        run: A finished run.
        boxes: Its n boxes.

    Returns:
        threshold_stability, loose_iou, tight_iou and regions_above, each (n,); NaN where not known.

    Raises:
        RunError: The curves cannot be read.
    """
    names = ("threshold_stability", "loose_iou", "tight_iou", "regions_above")
    signals = {name: np.full(len(boxes), np.nan) for name in names}
    if not run.curves.is_file():
        return signals
    by_pair = _BoxesByPair(boxes)
    for block in _iter_curves(run, by_pair):
        _compare(boxes, block, signals)
    return signals


@dataclass(frozen=True)
class _CurvesOfBoxes:
    """Curves of p boxes: the boxes' rows, thresholds (T,), xyxy (p, T, 4) in image px, number of regions (p, T)."""

    rows: Ints
    thresholds: Floats
    xyxy: Floats
    regions: Ints


class _BoxesByPair:
    """Find the rows of boxes by image and class."""

    def __init__(self, boxes: BoxArrays) -> None:
        self._images, image = np.unique(boxes.image_id, return_inverse=True)
        self._classes = int(boxes.category_id.max(initial=0)) + 1
        key = image * self._classes + boxes.category_id
        self._order = np.argsort(key, kind="stable")
        self._key = key[self._order]

    def match(self, image_id: Ints, category_id: Ints) -> tuple[Ints, Ints]:
        """Return positions in the given arrays and rows of boxes that have the same image and class, pair by pair."""
        place = np.minimum(np.searchsorted(self._images, image_id), len(self._images) - 1)
        is_known = (self._images[place] == image_id) & (category_id >= 0) & (category_id < self._classes)
        key = np.where(is_known, place * self._classes + category_id, -1)
        first, last = (np.searchsorted(self._key, key, side) for side in ("left", "right"))
        counts = last - first
        within = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
        return np.repeat(np.arange(len(key)), counts), self._order[np.repeat(first, counts) + within]


def _iter_curves(run: Run, by_pair: _BoxesByPair) -> Iterator[_CurvesOfBoxes]:
    try:
        with open_parquet(run.curves) as file:
            thresholds = np.array(file.schema_arrow.metadata[b"thresholds"].decode().split(","), np.float64)
            for batch in file.iter_batches(batch_size=_PAIRS_PER_BLOCK):
                yield _read_block(pa.Table.from_batches([batch]), by_pair, thresholds)
    except (KeyError, TypeError, ValueError) as error:
        raise RunError(f"{run.curves} cannot be read as curves ({error}). Mine again into a new folder.") from error


def _read_block(table: pa.Table, by_pair: _BoxesByPair, thresholds: Floats) -> _CurvesOfBoxes:
    place, rows = by_pair.match(table["image_id"].to_numpy(), table["category_id"].to_numpy().astype(np.int64))
    stretch = [column_floats(table, side) / column_floats(table, f"map_{side}") for side in ("width", "height")]
    xyxy, regions = (
        table[name].combine_chunks().flatten().to_numpy(zero_copy_only=False).reshape(len(table), -1)[place]
        for name in ("xyxy", "boxes")
    )
    scaled = xyxy.reshape(len(place), len(thresholds), 4) * np.stack([*stretch, *stretch], axis=1)[place, None]
    return _CurvesOfBoxes(rows, thresholds, scaled, regions.astype(np.int64))


def _compare(boxes: BoxArrays, curves: _CurvesOfBoxes, signals: dict[str, Floats]) -> None:
    """Write the signals of the boxes that these curves belong to."""
    rows, grid = curves.rows, curves.thresholds
    own = boxes.threshold[rows]
    iou = paired_iou(boxes.xyxy[rows, None], curves.xyxy)
    is_followed = _at(iou, grid, own) >= MIN_IOU_ON_CURVE
    near = np.abs(grid - own[:, None]) <= STABILITY_REACH + 1e-6
    stability = (iou * near).sum(axis=1) / np.maximum(near.sum(axis=1), 1)
    for name, values in (
        ("threshold_stability", stability),
        ("loose_iou", _at(iou, grid, own - STABILITY_REACH)),
        ("tight_iou", _at(iou, grid, own + STABILITY_REACH)),
    ):
        signals[name][rows] = np.where(is_followed, values, np.nan)
    signals["regions_above"][rows] = _at(curves.regions, grid, own + REGIONS_REACH)


def _at(values: Floats | Ints, grid: Floats, threshold: Floats) -> Floats:
    """Return the (p,) values of (p, T) at the grid's nearest thresholds."""
    step = np.abs(grid - threshold[:, None]).argmin(axis=1)
    return np.asarray(values[np.arange(len(values)), step], np.float64)
