"""COCO's figures by pycocotools itself: the reference engine, equal to metrics.coco and far slower.

pycocotools overwrites an annotation's `ignore` by its `iscrowd`, so that difficult objects would count, and treats an
annotation of id 0 as unmatched. Here the annotations are handed over directly: `ignore` stays as given and ids start
at 1. One class is evaluated at a time, which bounds the memory.
"""

import contextlib
import io
from collections import defaultdict
from collections.abc import Sequence
from importlib.metadata import version
from typing import Any

import numpy as np
from pycocotools.cocoeval import COCOeval

from mining.arrays import Floats
from mining.evaluation.boxes import Detections, TruthBoxes
from mining.evaluation.metrics.coco import NUMBERS, figures_by_name
from mining.evaluation.scores import CocoFigures

_Rows = dict[tuple[int, int], list[dict[str, Any]]]


class _ArrayEval(COCOeval):  # type: ignore[misc]
    """COCOeval of one class, on annotations that are handed in."""

    def __init__(self, truth: _Rows, predicted: _Rows, category: int) -> None:
        super().__init__(iouType="bbox")
        self.params.catIds = [category]
        self.params.imgIds = sorted({image for image, _ in (*truth, *predicted)})
        self._rows = truth, predicted

    def _prepare(self) -> None:
        self._gts, self._dts = (defaultdict(list, rows) for rows in self._rows)
        self.evalImgs: list[Any] = []
        self.eval: dict[str, Any] = {}


def pycocotools_scores(truth: TruthBoxes, predicted: Detections, classes: Sequence[str]) -> CocoFigures:
    """Compute by pycocotools what `coco_scores` computes.

    Args:
        truth: True boxes.
        predicted: Predicted boxes.
        classes: Class names; `category` of both box tables counts into them.

    Returns:
        AP, AP50, ... ARl in [0, 1] and `per_class_AP50` by class name; None where there is no object to be found.
    """
    used = np.unique(truth.category)
    if not len(used):
        return figures_by_name([None] * len(NUMBERS), {})
    with contextlib.redirect_stdout(io.StringIO()):
        tables = [_evaluate(truth, predicted, int(category)) for category in used]
        figures = _summarize(tables)
    ap50 = [_mean_defined(table["precision"][0, :, :, 0, -1]) for table in tables]
    per_class = {classes[c]: value for c, value in zip(used, ap50, strict=True) if value is not None}
    return figures_by_name([float(value) if value > -1 else None for value in figures], per_class)


def engine_note() -> str:
    """Return a sentence that names the engine and its version."""
    return f"COCO's figures were computed by pycocotools {version('pycocotools')}."


def _evaluate(truth: TruthBoxes, predicted: Detections, category: int) -> dict[str, Floats]:
    """COCOeval's arrays of one class: `precision` (T, R, 1, A, M) and `recall` (T, 1, A, M)."""
    evaluation = _ArrayEval(_truth_rows(truth, category), _predicted_rows(predicted, category), category)
    evaluation.evaluate()
    evaluation.accumulate()
    return {name: evaluation.eval[name] for name in ("precision", "recall")}


def _summarize(tables: Sequence[dict[str, Floats]]) -> Floats:
    """(12,) COCO's figures from the arrays of all classes; -1 where not defined."""
    summary = COCOeval(iouType="bbox")
    summary.eval = {
        "precision": np.concatenate([table["precision"] for table in tables], axis=2),
        "recall": np.concatenate([table["recall"] for table in tables], axis=1),
    }
    summary.summarize()
    return np.asarray(summary.stats)


def _truth_rows(truth: TruthBoxes, category: int) -> _Rows:
    rows: _Rows = defaultdict(list)
    chosen = np.flatnonzero(truth.category == category)
    columns = (truth.image, truth.xywh, truth.area, truth.is_ignored, truth.is_crowd)
    for number, values in enumerate(zip(*(c[chosen].tolist() for c in columns), strict=True), start=1):
        image, bbox, area, ignored, crowd = values
        row = {"id": number, "bbox": bbox, "area": area, "ignore": int(ignored), "iscrowd": int(crowd)}
        rows[image, category].append(row)
    return rows


def _predicted_rows(predicted: Detections, category: int) -> _Rows:
    rows: _Rows = defaultdict(list)
    chosen = np.flatnonzero(predicted.category == category)
    columns = (predicted.image, predicted.xywh, predicted.scores)
    for number, (image, bbox, score) in enumerate(zip(*(c[chosen].tolist() for c in columns), strict=True), start=1):
        row = {"id": number, "bbox": bbox, "area": bbox[2] * bbox[3], "score": score}
        rows[image, category].append(row)
    return rows


def _mean_defined(values: Floats) -> float | None:
    defined = values[values > -1]
    return float(defined.mean()) if defined.size else None
