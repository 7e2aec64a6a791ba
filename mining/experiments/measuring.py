"""Measuring a cell: the same jobs as the commands, and the maps looked at on their way."""

import json
import shutil
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mining import jobs
from mining.backbones import spec_of
from mining.cards import ModelCard
from mining.corpus import iter_shards
from mining.engine import mine_shard
from mining.errors import ModelError
from mining.experiments.cells import Cell
from mining.files import write_json
from mining.localizers import localizer_named
from mining.localizers.base import configured
from mining.models import card_to_mine_by
from mining.runs import CORPUS_FILE
from mining.scoring import read_truth
from mining.scoring.run import matched_files
from mining.scoring.score import best_iou_of_pairs, score_run
from mining.scoring.truth import Truth
from mining.scoring.wsoleval import BoxAccuracy, threshold_grid

MAP_THRESHOLDS = 0.01  # step of the thresholds behind MaxBoxAccV2


def measure(cell: Cell, *, workers: int | None = None) -> dict[str, Any]:
    """The cell's figures, measured unless they are there for the same settings; shares in [0, 1].

    workers: processes that feed a training, instead of the recipe's.
    Raises what training, mining and scoring raise.
    """
    earlier = measured(cell)
    if earlier is not None:
        return earlier
    training = jobs.train(cell.train if workers is None else cell.train.model_copy(update={"workers": workers}))
    shutil.rmtree(cell.mine.out, ignore_errors=True)  # half a run has not shown all its maps
    truth = read_truth(cell.truth)
    with jobs.held(cell.mine.out):
        plan = jobs.plan_mining(cell.mine)
        seen = _MapScores(truth, cell.mine.out)
        started = time.perf_counter()
        for shard in plan.shards:
            mine_shard(plan.run, shard, watch=seen.keep)
            seen.score()
        seconds = time.perf_counter() - started - seen.seconds
        summary = jobs.finish_mining(plan.run, seconds)
    scores = score_run(cell.mine.out, cell.truth, resamples=0)
    corloc = scores["corloc"]
    figures = {
        "cell": _identity(cell),
        "corloc": corloc["value"], "corloc_0.3": corloc["at_0.3"], "corloc_0.7": corloc["at_0.7"],
        "instance_recall": corloc["instance_recall"], "boxes_per_pair": corloc["boxes_per_pair"],
        "false_positives_per_image": scores["false_positives_per_image"], "ap50": scores["coco"]["AP50"],
        "max_box_acc_v2": seen.accuracy.max_box_acc_v2(),
        "train_seconds": training.seconds, "epochs": training.epochs, "held_back": training.value,
        "mine_seconds": seconds, "images": summary.images,
        "pairs": best_iou_of_pairs(cell.mine.out, cell.truth),
    }  # fmt: skip
    cell.figures.parent.mkdir(parents=True, exist_ok=True)
    write_json(cell.figures, figures)
    return figures


def refuse_what_cannot_be(every: Sequence[Cell]) -> None:
    """Raises ModelError where a cell names a backbone, a localizer or an option that there is not."""
    for cell in every:
        try:
            spec_of(cell.train.backbone)
            configured(localizer_named(cell.train.localizer).Config, cell.train.options)
            card = ModelCard(cell.train.localizer, cell.train.backbone, "single", [], 0, {}, cell.train.options)
            card_to_mine_by(card, cell.mine)
        except ModelError as error:
            raise ModelError(f"Variant {cell.variant!r}: {error}") from None


def measured(cell: Cell) -> dict[str, Any] | None:
    """What was measured of the cell, None where nothing was with these settings."""
    if not cell.figures.exists():
        return None
    try:
        found: dict[str, Any] = json.loads(cell.figures.read_text("utf-8"))
        return found if found["cell"] == _identity(cell) else None
    except (ValueError, KeyError, TypeError):  # damaged: measured anew
        return None


def _identity(cell: Cell) -> dict[str, Any]:
    """What the figures depend on, with what the settings leave to the localizer."""
    trained = localizer_named(cell.train.localizer)
    mined = localizer_named(cell.mine.localizer or cell.train.localizer)
    defaults = {"learning_rate": trained.learning_rate, "threshold": mined.threshold, "normalise": mined.normalise}
    return {**cell.identity(), "defaults": defaults}


@dataclass
class _MapScores:
    """MaxBoxAccV2 of the maps of a run, of the pairs that the truth has boxes of."""

    truth: Truth
    run: Path
    accuracy: BoxAccuracy = field(default_factory=lambda: BoxAccuracy(threshold_grid(MAP_THRESHOLDS)))
    seconds: float = 0.0  # spent here, not on mining

    def __post_init__(self) -> None:
        self._kept: list[tuple[npt.NDArray[np.float32], npt.NDArray[np.float64], tuple[float, float]]] = []
        self._lock = threading.Lock()
        self._boxes = _boxes_by_pair(self.truth, self.run)

    def keep(self, row: dict[str, Any], category: str, activation: npt.NDArray[np.float32]) -> None:
        """For the engine to call with each map."""
        boxes = self._boxes.get((row["file_name"], category))
        if boxes is not None:
            with self._lock:
                self._kept.append((activation, boxes, (row["width"], row["height"])))

    def score(self) -> None:
        """Work through what was kept, between two shards."""
        started = time.perf_counter()
        for one in self._kept:
            self.accuracy.add(*one)
        self._kept.clear()
        self.seconds += time.perf_counter() - started


def _boxes_by_pair(truth: Truth, run: Path) -> dict[tuple[str, str], npt.NDArray[np.float64]]:
    """The countable true boxes, xyxy, by the corpus' file name and the class."""
    names = [name for shard in iter_shards(run / CORPUS_FILE) for name in shard["file_name"].to_pylist()]
    row = matched_files(truth.file_names, names)
    boxes: dict[tuple[str, str], list[npt.NDArray[np.float64]]] = {}
    countable = np.flatnonzero(truth.boxes.is_countable)
    for at, xyxy in zip(countable, truth.boxes.xyxy[countable], strict=True):
        found = row[truth.boxes.image[at]]
        if found >= 0:
            boxes.setdefault((names[found], truth.classes[truth.boxes.category[at]]), []).append(xyxy)
    return {pair: np.stack(rows) for pair, rows in boxes.items()}
