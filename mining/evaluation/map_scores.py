"""MaxBoxAcc and MaxBoxAccV2 of the maps that a run draws, for those who must compare with papers."""

import threading
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mining.arrays import Floats
from mining.corpus import iter_shards
from mining.errors import ScoringError
from mining.evaluation.ground_truth.reading import Truth
from mining.evaluation.protocols.region_accuracy import RegionAccuracy
from mining.evaluation.protocols.wsoleval import BoxAccuracy
from mining.evaluation.run_reading import matched_images

DEFINITION = (
    "Over the (image, class) pairs that the truth has a countable box of and the run drew a map of; each IoU at its "
    "own best threshold in hindsight. MaxBoxAcc: largest contour, IoU 0.5; MaxBoxAccV2: all contours, mean over IoU "
    "0.3, 0.5 and 0.7; both as the released wsolevaluation has them (8-bit maps of 224 x 224, +1 in the IoU). own: the "
    "same of the regions that boxmine cuts, on whole maps, half-open; MaxBoxAcc_peak: of the region that holds the "
    "peak, whose box CorLoc looks at."
)
Counter = BoxAccuracy | RegionAccuracy


class MapScores:
    """Collects maps as they are drawn, and counts at which thresholds their boxes are right.

    counters: each is shown every map of a pair that the truth has boxes of.
    """

    def __init__(self, truth: Truth, corpus: Path, *counters: Counter) -> None:
        self.counters = counters
        self._kept: list[tuple[NDArray[np.float32], Floats, tuple[float, float]]] = []
        self._lock = threading.Lock()
        self._boxes = _boxes_by_pair(truth, corpus)

    def __len__(self) -> int:
        return len(self._boxes)

    def keep(self, row: dict[str, Any], category: str, activation: NDArray[np.float32]) -> None:
        """For the engine to call with each map, from any thread."""
        boxes = self._boxes.get((row["file_name"], category))
        if boxes is not None:
            with self._lock:
                self._kept.append((activation, boxes, (row["width"], row["height"])))

    def score(self) -> None:
        """Work through what was kept, between two shards."""
        for one in self._kept:
            for counter in self.counters:
                counter.add(*one)
        self._kept.clear()


def map_figures(seen: MapScores, protocol: BoxAccuracy, own: RegionAccuracy) -> dict[str, Any]:
    """The `maps` part of scores.json. Raises ScoringError where no map of a pair of the truth was drawn."""
    if not protocol.pairs:
        raise ScoringError("The run drew no map of an image and class that the truth has a countable box of.")
    return {
        "definition": DEFINITION,
        "pairs": protocol.pairs,
        "pairs_without_map": len(seen) - protocol.pairs,
        "MaxBoxAcc": protocol.max_box_acc(),
        "MaxBoxAccV2": protocol.max_box_acc_v2(),
        "best_thresholds": {
            "largest": protocol.best_thresholds("largest").tolist(), "all": protocol.best_thresholds("all").tolist()
        },
        "own": {
            "MaxBoxAcc": own.max_box_acc(),
            "MaxBoxAcc_peak": own.max_box_acc("peak"),
            "MaxBoxAccV2": own.max_box_acc_v2(),
        },
    }  # fmt: skip


def _boxes_by_pair(truth: Truth, corpus: Path) -> dict[tuple[str, str], Floats]:
    """The countable true boxes, xyxy, by the corpus' file name and the class."""
    names = [name for shard in iter_shards(corpus) for name in shard["file_name"].to_pylist()]
    row = matched_images(truth, names, corpus.parent).position
    boxes: dict[tuple[str, str], list[Floats]] = {}
    countable = np.flatnonzero(truth.boxes.is_countable)
    for at, xyxy in zip(countable, truth.boxes.xyxy[countable], strict=True):
        found = row[truth.boxes.image[at]]
        if found >= 0:
            boxes.setdefault((names[found], truth.classes[truth.boxes.category[at]]), []).append(xyxy)
    return {pair: np.stack(rows) for pair, rows in boxes.items()}
