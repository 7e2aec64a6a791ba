"""Numbers behind the charts: how tight boxes are, which objects are found, and what the score sorts out."""

from typing import Any

import numpy as np

from mining.arrays import Bools, Floats
from mining.evaluation.boxes import Detections, Overlaps, TruthBoxes
from mining.evaluation.metrics.corloc import IOU_THRESHOLD, Pairs
from mining.evaluation.metrics.rules import mean_of
from mining.evaluation.metrics.voc import curves_of, rank_matches

IOU_STEP = 0.05
SIZE_STEP = 0.1
RECALLS = np.linspace(0, 1, 101)


def chart_numbers(
    truth: TruthBoxes, predicted: Detections, found: Overlaps, pairs: Pairs, sizes: Floats
) -> dict[str, Any]:
    """The `charts` part of scores.json.

    sizes: (N, 2) width and height of the images; objects of images with NaN there are left out of the sizes.
    iou: `pairs` by the IoU of the best-scored box, in steps of 0.05; the first holds those without a box too.
    size: true boxes by the square root of their share of the image, in steps of 0.1, and the share of them that some
    predicted box covers at IoU 0.5; None where there is none.
    precision: at recalls 0, 0.01, ... 1 the mean over classes of the best precision at that recall or above, by VOC's
    matching at IoU 0.5; 0 where no score reaches the recall.
    """
    return {
        "iou": {"step": IOU_STEP, "pairs": _counts(pairs.best_iou, IOU_STEP)},
        "size": _found_by_size(truth, found, sizes),
        "precision": {"recall": RECALLS.tolist(), "precision": _mean_precision(truth, predicted)},
    }


def _counts(values: Floats, step: float) -> list[int]:
    cells = round(1 / step)
    return np.bincount(_cell(values, cells), minlength=cells).tolist()


def _cell(values: Floats, cells: int) -> Any:
    return np.clip((values * cells + 1e-9).astype(np.int64), 0, cells - 1)


def _found_by_size(truth: TruthBoxes, found: Overlaps, sizes: Floats) -> dict[str, Any]:
    share = truth.xywh[:, 2:].prod(axis=1) / sizes[truth.image].prod(axis=1)
    counted = truth.is_countable & np.isfinite(share)
    cells = round(1 / SIZE_STEP)
    cell = _cell(np.sqrt(share[counted]), cells)
    covered: Bools = found.truth_iou[counted] >= IOU_THRESHOLD
    return {
        "step": SIZE_STEP,
        "objects": np.bincount(cell, minlength=cells).tolist(),
        "found": [mean_of(covered[cell == one]) for one in range(cells)],
    }


def _mean_precision(truth: TruthBoxes, predicted: Detections) -> list[float] | None:
    curves = curves_of(truth, predicted, rank_matches(truth, predicted)).values()
    if not curves:
        return None
    at_recalls = [
        np.append(curve.best_precision, 0)[np.searchsorted(curve.recall, RECALLS - 1e-12, "left")] for curve in curves
    ]
    return [float(one) for one in np.mean(at_recalls, axis=0)]
