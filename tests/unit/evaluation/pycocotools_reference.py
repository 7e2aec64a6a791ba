"""COCO's numbers by pycocotools, one class at a time, on rows that are handed in."""

import contextlib
import io
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np
from pycocotools.cocoeval import COCOeval

from mining.arrays import Floats, Ints
from mining.evaluation.boxes import Detections, TruthBoxes
from mining.evaluation.metrics.coco import NUMBERS

_Rows = dict[tuple[int, int], list[dict[str, Any]]]


class _ArrayEval(COCOeval):  # type: ignore[misc]
    """COCOeval of one class, on rows that are handed in.

    pycocotools overwrites an annotation's `ignore` by its `iscrowd`, so that difficult objects would count; and an
    annotation whose id is 0 counts as unmatched. Here `ignore` stays as given and ids start at 1.
    """

    def __init__(self, truth: _Rows, predicted: _Rows, category: int) -> None:
        super().__init__(iouType="bbox")
        self.params.catIds = [category]
        self.params.imgIds = sorted({image for image, _ in (*truth, *predicted)})
        self._rows = truth, predicted

    def _prepare(self) -> None:
        self._gts, self._dts = (defaultdict(list, rows) for rows in self._rows)
        self.evalImgs: list[Any] = []
        self.eval: dict[str, Any] = {}


def reference_scores(truth: TruthBoxes, predicted: Detections, classes: Sequence[str]) -> dict[str, Any]:
    """What `coco_scores` gives, by pycocotools."""
    used = np.unique(truth.category)
    if not len(used):
        return {**dict.fromkeys(NUMBERS), "per_class_AP50": {}}
    with contextlib.redirect_stdout(io.StringIO()):
        tables = [_evaluated(truth, predicted, int(category)) for category in used]
        stats = _summary(tables)
    ap50 = [_mean_found(table["precision"][0, :, :, 0, -1]) for table in tables]
    per_class = {classes[c]: value for c, value in zip(used, ap50, strict=True) if value is not None}
    return {**{name: _told(value) for name, value in zip(NUMBERS, stats, strict=True)}, "per_class_AP50": per_class}


def _evaluated(truth: TruthBoxes, predicted: Detections, category: int) -> dict[str, Floats]:
    """COCOeval's arrays of one class: `precision` (T, R, 1, A, M) and `recall` (T, 1, A, M)."""
    evaluation = _ArrayEval(_truth_rows(truth, category), _predicted_rows(predicted, category), category)
    evaluation.evaluate()
    evaluation.accumulate()
    return {name: evaluation.eval[name] for name in ("precision", "recall")}


def _summary(tables: Sequence[dict[str, Floats]]) -> Floats:
    """(12,) COCO's numbers from the arrays of all classes; -1 where not defined."""
    whole = COCOeval(iouType="bbox")
    whole.eval = {
        "precision": np.concatenate([table["precision"] for table in tables], axis=2),
        "recall": np.concatenate([table["recall"] for table in tables], axis=1),
    }
    whole.summarize()
    return np.asarray(whole.stats)


def _truth_rows(truth: TruthBoxes, category: int) -> _Rows:
    rows: _Rows = defaultdict(list)
    chosen = _of_category(truth.category, category)
    columns = (truth.image, truth.xywh, truth.area, truth.is_ignored, truth.is_crowd)
    for number, values in enumerate(zip(*(c[chosen].tolist() for c in columns), strict=True), start=1):
        image, bbox, area, ignored, crowd = values
        row = {"id": number, "bbox": bbox, "area": area, "ignore": int(ignored), "iscrowd": int(crowd)}
        rows[image, category].append(row)
    return rows


def _predicted_rows(predicted: Detections, category: int) -> _Rows:
    rows: _Rows = defaultdict(list)
    chosen = _of_category(predicted.category, category)
    columns = (predicted.image, predicted.xywh, predicted.scores)
    for number, (image, bbox, score) in enumerate(zip(*(c[chosen].tolist() for c in columns), strict=True), start=1):
        row = {"id": number, "bbox": bbox, "area": bbox[2] * bbox[3], "score": score}
        rows[image, category].append(row)
    return rows


def _of_category(column: Ints, category: int) -> Ints:
    return np.flatnonzero(column == category)


def _mean_found(precision: Floats) -> float | None:
    found = precision[precision > -1]
    return float(found.mean()) if found.size else None


def _told(value: float) -> float | None:
    return float(value) if value > -1 else None
