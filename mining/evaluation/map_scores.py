"""MaxBoxAcc, MaxBoxAccV2 and Loc(delta) of the maps that a run draws, for comparison with papers."""

import threading
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mining.arrays import Floats
from mining.corpus import iter_shards
from mining.errors import ScoringError
from mining.evaluation.protocols import explanation
from mining.evaluation.protocols.explanation import ExplanationAccuracy
from mining.evaluation.protocols.region_accuracy import RegionAccuracy
from mining.evaluation.protocols.wsoleval import BoxAccuracy
from mining.evaluation.run_reading import match_images
from mining.evaluation.scores import LocScores, MapScores
from mining.ground_truth.reading import GroundTruth

DEFINITION = (
    "Over the (image, class) pairs that the truth has a countable box of and the run drew a map of; each IoU at its "
    "own best threshold in hindsight. MaxBoxAcc: largest contour, IoU 0.5; MaxBoxAccV2: all contours, mean over IoU "
    "0.3, 0.5 and 0.7; both as the released wsolevaluation has them (8-bit maps of 224 x 224, +1 in the IoU). own: the "
    "same of the regions that boxmine extracts, on whole maps, half-open; MaxBoxAcc_peak: of the region that holds "
    "the peak, whose box CorLoc uses."
)
Counter = BoxAccuracy | RegionAccuracy | ExplanationAccuracy


class MapCollector:
    """Collects maps while they are drawn, and counts at which thresholds their boxes are correct."""

    def __init__(self, truth: GroundTruth, corpus: Path, *counters: Counter) -> None:
        """Prepare to collect the maps of all pairs that have a countable true box.

        Args:
            truth: Ground truth.
            corpus: corpus.parquet of the run.
            counters: Each counts every collected map.
        """
        self.counters = counters
        self._collected: list[tuple[NDArray[np.float32], Floats, tuple[float, float]]] = []
        self._lock = threading.Lock()
        self._boxes = _boxes_by_pair(truth, corpus)

    def __len__(self) -> int:
        return len(self._boxes)

    def collect(self, row: dict[str, Any], category: str, activation: NDArray[np.float32]) -> None:
        """Collect one map, if the ground truth has its pair; may be called from any thread.

        Args:
            row: The image's row of the corpus table.
            category: Class name.
            activation: (H, W) map.
        """
        boxes = self._boxes.get((row["file_name"], category))
        if boxes is not None:
            with self._lock:
                self._collected.append((activation, boxes, (row["width"], row["height"])))

    def count_collected(self) -> None:
        """Count the collected maps and forget them, between two shards."""
        for activation, boxes, size in self._collected:
            for counter in self.counters:
                counter.add(activation, boxes, size)
        self._collected.clear()


def map_scores(
    maps: MapCollector, protocol: BoxAccuracy, own: RegionAccuracy, explained: ExplanationAccuracy
) -> MapScores:
    """Compute the `maps` part of scores.json.

    Args:
        maps: The collector, all maps counted.
        protocol: Its counter by the released protocol.
        own: Its counter of boxmine's own regions.
        explained: Its counter of Loc(delta).

    Returns:
        Accuracies in [0, 1].

    Raises:
        ScoringError: No map was drawn of a pair that has a countable true box.
    """
    if not protocol.pairs:
        raise ScoringError("The run drew no map of an image and class that the truth has a countable box of.")
    return {
        "definition": DEFINITION,
        "pairs": protocol.pairs,
        "pairs_without_map": len(maps) - protocol.pairs,
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
        "loc": _loc_scores(explained),
    }  # fmt: skip


def _loc_scores(explained: ExplanationAccuracy) -> LocScores:
    return {
        "definition": explanation.DEFINITION,
        "delta": explanation.DELTA,
        "value": explained.accuracy_at(),
        "curve": {"delta": explained.deltas.tolist(), "value": explained.accuracy().tolist()},
    }


def _boxes_by_pair(truth: GroundTruth, corpus: Path) -> dict[tuple[str, str], Floats]:
    """The countable true boxes, xyxy, by the corpus' file name and the class."""
    names = [name for shard in iter_shards(corpus) for name in shard["file_name"].to_pylist()]
    position = match_images(truth, names, corpus.parent).position
    boxes: dict[tuple[str, str], list[Floats]] = {}
    countable = np.flatnonzero(truth.boxes.is_countable)
    for row, xyxy in zip(countable, truth.boxes.xyxy[countable], strict=True):
        place = position[truth.boxes.image[row]]
        if place >= 0:
            boxes.setdefault((names[place], truth.classes[truth.boxes.category[row]]), []).append(xyxy)
    return {pair: np.stack(rows) for pair, rows in boxes.items()}
