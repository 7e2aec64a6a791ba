"""Numbers behind the charts: how tight boxes are, which objects are found, and how well scores rank boxes."""

import numpy as np

from mining.arrays import Bools, Floats
from mining.evaluation.boxes import Detections, Overlaps, TruthBoxes
from mining.evaluation.metrics.histogram import cell_index, count_per_cell
from mining.evaluation.metrics.hits import IOU_THRESHOLD, PairResults, mean_or_none
from mining.evaluation.metrics.voc import RankedMatches, precision_recall_curves
from mining.evaluation.scores import ChartData, FoundBySize

IOU_STEP = 0.05
SIZE_STEP = 0.1
RECALLS = np.linspace(0, 1, 101)


def chart_data(
    truth: TruthBoxes,
    predicted: Detections,
    overlaps: Overlaps,
    pairs: PairResults,
    matches: RankedMatches,
    sizes: Floats,
) -> ChartData:
    """Compute the `charts` part of scores.json.

    Args:
        truth: True boxes.
        predicted: Predicted boxes.
        overlaps: `compute_overlaps(truth, predicted)`.
        pairs: `pair_results(truth, predicted)`.
        matches: `rank_matches(truth, predicted)`, at IoU 0.5.
        sizes: (N, 2) width and height of the images in pixels; objects of images with NaN there are left out of `size`.

    Returns:
        iou: Pairs by the IoU of the best-scored box, in steps of 0.05; the first step also holds pairs without a box.
        size: True boxes by the square root of their share of the image's area, in steps of 0.1, and the share of them
            that some predicted box covers at IoU 0.5; None where there are none.
        precision: At recalls 0, 0.01, ... 1 the mean over classes of the best precision at that recall or above; 0
            where no score reaches the recall.
    """
    return {
        "iou": {"step": IOU_STEP, "pairs": count_per_cell(pairs.best_iou, round(1 / IOU_STEP)).tolist()},
        "size": _found_by_size(truth, overlaps, sizes),
        "precision": {"recall": RECALLS.tolist(), "precision": _mean_precision(truth, predicted, matches)},
    }


def _found_by_size(truth: TruthBoxes, overlaps: Overlaps, sizes: Floats) -> FoundBySize:
    share = truth.xywh[:, 2:].prod(axis=1) / sizes[truth.image].prod(axis=1)
    is_counted = truth.is_countable & np.isfinite(share)
    cells = round(1 / SIZE_STEP)
    cell = cell_index(np.sqrt(share[is_counted]), cells)
    is_found: Bools = overlaps.truth_iou[is_counted] >= IOU_THRESHOLD
    return {
        "step": SIZE_STEP,
        "objects": np.bincount(cell, minlength=cells).tolist(),
        "found": [mean_or_none(is_found[cell == number]) for number in range(cells)],
    }


def _mean_precision(truth: TruthBoxes, predicted: Detections, matches: RankedMatches) -> list[float] | None:
    curves = precision_recall_curves(truth, predicted, matches).values()
    if not curves:
        return None
    at_recalls = [
        np.append(curve.best_precision, 0)[np.searchsorted(curve.recall, RECALLS - 1e-12, "left")] for curve in curves
    ]
    return [float(value) for value in np.mean(at_recalls, axis=0)]
