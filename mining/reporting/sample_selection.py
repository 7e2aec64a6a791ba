"""Select the images to show in a report: for each class the best, the doubtful and the worst.

A pair is an image and a class. Only the few pairs at the top of each ranking are held in memory.
"""

import heapq
import math
from collections.abc import Iterable, Iterator, Set
from itertools import groupby
from operator import attrgetter
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mining.boxes.iou import iou_matrix
from mining.reporting.ground_truth_index import GroundTruthIndex, TrueBoxes
from mining.reporting.score_rankings import BEST, DOUBTFUL, UNSURE, WORST, top_by_score
from mining.storage.parquet import iter_batches

MISSED = "missed"
KINDS = (BEST, DOUBTFUL, WORST, MISSED)
CORRECT_IOU = 0.5
_COLUMNS = [
    "image_id", "file_name", "category", "x", "y", "w", "h", "score", "class_score", "threshold", "source",
    "annotation_id",
]  # fmt: skip


class Row(NamedTuple):
    """One mined box, as in annotations.parquet."""

    image_id: int
    file_name: str
    category: str
    x: float
    y: float
    w: float
    h: float
    score: float
    class_score: float
    threshold: float
    source: str
    annotation_id: int


class Pair(NamedTuple):
    """An image and a class, with the mined and the true boxes.

    Attributes:
        file_name: Name of the image.
        category: Class name.
        rows: The mined boxes, best score first; empty for a pair that was missed.
        truth: The true boxes; None where no ground truth has the image.
        iou: IoU of the best-scored box with the nearest countable true box; None where there is none to compare.
    """

    file_name: str
    category: str
    rows: tuple[Row, ...]
    truth: TrueBoxes | None
    iou: float | None


class Ranking:
    """The `size` pairs with the highest keys; of equal keys the earlier pair."""

    def __init__(self, size: int) -> None:
        """Start an empty ranking of at most `size` pairs."""
        self._size = size
        self._heap: list[tuple[float, int, Pair]] = []
        self._offered = 0

    def offer(self, key: float, pair: Pair) -> None:
        """Keep the pair if its key is among the highest."""
        self._offered -= 1
        if len(self._heap) == self._size and key <= self._heap[0][0]:
            return
        push = heapq.heappush if len(self._heap) < self._size else heapq.heappushpop
        push(self._heap, (key, self._offered, pair))

    def pairs(self) -> list[Pair]:
        """Return the pairs, highest key first."""
        return [pair for *_, pair in sorted(self._heap, reverse=True, key=lambda entry: entry[:2])]


def select_pairs(
    annotations: Path, classes: list[str], truth: GroundTruthIndex | None, *, per_class: int, class_cut: float
) -> dict[str, list[tuple[str, Pair]]]:
    """Select the pairs to show for each class.

    Args:
        annotations: annotations.parquet of the run.
        classes: Classes to show.
        truth: True boxes; None ranks by score only.
        per_class: Pairs of each kind per class.
        class_cut: Probability from which predicted classes were mined; near it the class is in doubt.

    Returns:
        For each class up to 3 * per_class (kind, pair) in the order best, doubtful, worst, missed; no pair twice.
    """
    size = 3 * per_class
    rankings = {name: {kind: Ranking(size) for kind in KINDS[:3]} for name in classes}
    images = top_by_score(annotations, classes, size, class_cut) if truth is None else None
    for pair in _pairs(annotations, classes, truth, images=images):
        for kind, key in _keys(pair, truth is not None, class_cut):
            rankings[pair.category][kind].offer(key, pair)
    return {name: _picked(rankings[name], _missed(name, truth, per_class), per_class) for name in classes}


def find_pairs(annotations: Path, keys: list[tuple[str, str]], truth: GroundTruthIndex | None) -> list[Pair]:
    """Return the pairs of these file names and classes, in their order; one without a mined box has no rows."""
    requested = set(keys)
    names, classes = {name for name, _ in keys}, sorted({category for _, category in keys})
    pairs = ((pair.file_name, pair.category, pair) for pair in _pairs(annotations, classes, truth, names=names))
    mined = {(name, category): pair for name, category, pair in pairs if (name, category) in requested}
    return [
        mined.get((name, category)) or Pair(name, category, (), truth.boxes(name, category) if truth else None, None)
        for name, category in keys
    ]


def _pairs(
    annotations: Path,
    classes: list[str],
    truth: GroundTruthIndex | None,
    *,
    names: Set[str] | None = None,
    images: Set[int] | None = None,
) -> Iterator[Pair]:
    """The pairs of these classes; only those of the named images, and of the images with these ids, if given."""
    selected = [("category", pa.array(classes, pa.string()))]
    if names is not None:
        selected.append(("file_name", pa.array(sorted(names), pa.string())))
    if images is not None:
        selected.append(("image_id", pa.array(sorted(images), pa.int64())))
    for _, of_image in groupby(_rows(annotations, selected), key=attrgetter("image_id")):
        by_class: dict[str, list[Row]] = {}
        for row in of_image:
            by_class.setdefault(row.category, []).append(row)
        for name, rows in by_class.items():
            rows.sort(key=lambda row: -row.score)
            true = truth.boxes(rows[0].file_name, name) if truth else None
            yield Pair(rows[0].file_name, name, tuple(rows), true, _iou(rows[0], true))


def _rows(annotations: Path, selected: list[tuple[str, pa.Array]]) -> Iterator[Row]:
    for batch in iter_batches(annotations, _COLUMNS):
        for column, values in selected:
            batch = batch.filter(pc.is_in(batch[column], value_set=values))
        yield from map(Row, *(batch[name].to_pylist() for name in _COLUMNS))


def _iou(row: Row, truth: TrueBoxes | None) -> float | None:
    """IoU of a box with the nearest countable true box; None where all true boxes are ignored."""
    if truth is None or (len(truth.xyxy) and truth.is_ignored.all()):
        return None
    countable = truth.xyxy[~truth.is_ignored]
    if not len(countable):
        return 0.0
    return float(iou_matrix(np.array([row.x, row.y, row.x + row.w, row.y + row.h]), countable).max())


def _keys(pair: Pair, has_truth: bool, class_cut: float) -> Iterable[tuple[str, float]]:
    """The rankings that a pair enters, with its key in each."""
    score = pair.rows[0].score
    if not has_truth:
        return (BEST, score), (DOUBTFUL, _doubt(pair.rows, class_cut)), (WORST, -score)
    if pair.iou is None:
        return ()
    side = (BEST, pair.iou) if pair.iou >= CORRECT_IOU else (WORST, score - pair.iou)
    return side, (DOUBTFUL, -abs(pair.iou - CORRECT_IOU))


def _doubt(rows: tuple[Row, ...], class_cut: float) -> float:
    """Above 0 for a second box that rivals the first; below 0, nearer to 0 the nearer the class is to the cut."""
    if len(rows) > 1:
        return rows[1].score / max(rows[0].score, 1e-9)
    probability = rows[0].score if math.isnan(rows[0].class_score) else rows[0].class_score  # NaN: an imported box
    return -abs(probability - class_cut) - (rows[0].source not in UNSURE)


def _missed(category: str, truth: GroundTruthIndex | None, limit: int) -> list[Pair]:
    if truth is None:
        return []
    names = truth.unqueried_images(category, limit)
    return [Pair(name, category, (), truth.boxes(name, category), None) for name in names]


def _picked(rankings: dict[str, Ranking], missed: list[Pair], per_class: int) -> list[tuple[str, Pair]]:
    queues = {kind: ranking.pairs() for kind, ranking in rankings.items()}
    wrong = per_class - min(len(missed), per_class // 2 if queues[WORST] else per_class)
    picked: list[tuple[str, Pair]] = [(MISSED, pair) for pair in missed[: per_class - wrong]]
    taken: set[str] = set()
    for turn in range(per_class):  # one of each kind at a time, so that a class of few images shows both ends
        for kind in (BEST, WORST, DOUBTFUL):
            pair = next((pair for pair in queues[kind] if pair.file_name not in taken), None)
            if pair is not None and not (kind == WORST and turn >= wrong):
                taken.add(pair.file_name)
                picked.append((kind, pair))
    return sorted(picked, key=lambda kind_and_pair: KINDS.index(kind_and_pair[0]))
