"""A review played by the ground truth: boxes drawn at random are judged, and the wrong ones corrected."""

import csv
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mining.arrays import Bools, Floats
from mining.boxes.iou import iou_matrix
from mining.config.audit import AuditPlanSettings
from mining.corpus.names import normalise_class_name
from mining.evaluation.metrics.hits import IOU_THRESHOLD
from mining.evaluation.run_matching import match_run
from mining.evaluation.run_reading import read_run_boxes
from mining.ground_truth.reading import GroundTruth, read_ground_truth
from mining.quality.applying import correct_boxes
from mining.quality.corrected_run import apply_verdicts
from mining.quality.planning import plan_audit
from mining.quality.plans import SIDES
from mining.quality.recording import record_verdicts
from mining.runs.run import Run
from mining.storage.folders import atomic_folder

_RUN, _PLAN, _CORRECTED = "run", "plan.csv", "corrected"
_REVIEWER = "ground truth"


def review(run: Path, truth: Path, verdicts: int, seed: int, out: Path) -> Run:
    """Return a copy of a run whose boxes were partly judged and corrected; it is made unless it exists.

    The steps are those of `boxmine audit`: plan, record, apply. A box is correct if its IoU with a true box of its
    class is at least 0.5. A wrong one is moved to the nearest object of its class (the highest IoU, then the nearest
    centre) that no other box of the run covers, and removed if there is none.

    Args:
        run: A finished run; it is not changed.
        truth: The true boxes of its images.
        verdicts: How many boxes are judged, drawn at random; at most all.
        seed: Seed of the draw.
        out: Folder for the copies.

    Raises:
        ScoringError: The ground truth cannot be used, or shares no image or class with the run.
        RunError: A table of the run is missing or damaged.
    """
    if not out.is_dir():
        with atomic_folder(out) as temporary:
            copy = Run(temporary / _RUN)
            shutil.copytree(run, copy.path, ignore=shutil.ignore_patterns("verdicts.sqlite*", "report"))
            boxes = len(copy.read_annotations(["annotation_id"]))
            plan_audit(
                AuditPlanSettings(
                    run=copy.path, out=temporary / _PLAN, verdicts=min(verdicts, boxes), seed=seed
                )
            )  # fmt: skip
            _answer(temporary / _PLAN, _Reviewer(copy, truth))
            record_verdicts(copy.path, temporary / _PLAN, _REVIEWER)
            if correct_boxes(copy).is_empty:
                shutil.copytree(copy.path, temporary / _CORRECTED)
            else:
                apply_verdicts(copy.path, temporary / _CORRECTED)
    return Run.open(out / _CORRECTED, finished=True)


class _Reviewer:
    """Answers from the ground truth."""

    def __init__(self, run: Run, truth: Path) -> None:
        match = match_run(read_ground_truth(truth), read_run_boxes(run.path), run.path)
        self._truth: GroundTruth = match.truth
        self._image = {
            row["file_name"]: match.image_positions[row["image_id"]]
            for row in run.read_corpus(["image_id", "file_name"]).to_pylist()
            if row["image_id"] in match.image_positions
        }
        self._class = {normalise_class_name(name): place for place, name in enumerate(match.truth.classes)}
        boxes = match.truth.boxes
        self._is_covered = _covered(boxes.image, boxes.category, boxes.xyxy, match.predicted)

    def answer(self, row: Mapping[str, str]) -> dict[str, Any]:
        """Return the cells that a reviewer changes."""
        image, category = self._image.get(row["file_name"]), self._class.get(normalise_class_name(row["category"]))
        if image is None or category is None:
            return {"verdict": "unsure"}
        boxes = self._truth.boxes
        of_class = np.flatnonzero((boxes.image == image) & (boxes.category == category))
        x, y, w, h = (float(row[side]) for side in SIDES)
        overlap = iou_matrix(np.array([x, y, x + w, y + h]), boxes.xyxy[of_class]).ravel()
        if len(of_class) and overlap.max() >= IOU_THRESHOLD:
            return {"verdict": "correct"}
        is_free = ~self._is_covered[of_class] & boxes.is_countable[of_class]
        if not is_free.any():
            return {"verdict": "nothing"}
        free = of_class[is_free]
        away = np.linalg.norm(boxes.xywh[free, :2] + boxes.xywh[free, 2:] / 2 - (x + w / 2, y + h / 2), axis=1)
        nearest = free[np.lexsort((away, -overlap[is_free]))[0]]
        self._is_covered[nearest] = True
        corrected = zip(SIDES, boxes.xywh[nearest], strict=True)
        return {"verdict": "wrong_place", **{side: f"{value:.2f}" for side, value in corrected}}


def _covered(image: Any, category: Any, xyxy: Floats, predicted: Any) -> Bools:
    """(m,) which true boxes a predicted box of their class covers."""
    found = np.zeros(len(xyxy), bool)
    for place in range(len(xyxy)):
        rows = (predicted.image == image[place]) & (predicted.category == category[place])
        found[place] = rows.any() and iou_matrix(xyxy[place], predicted.xyxy[rows]).max() >= IOU_THRESHOLD
    return found


def _answer(plan: Path, reviewer: _Reviewer) -> None:
    with plan.open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        names, rows = list(reader.fieldnames or ()), list(reader)
    with plan.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, names, lineterminator="\n")
        writer.writeheader()
        writer.writerows({**row, **reviewer.answer(row)} for row in rows)
