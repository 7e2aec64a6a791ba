"""CorLoc in one definition, and the figures that have to be read beside it.

A pair is an image and a class of which the ground truth has at least one countable box in the image. With b the
best-scored predicted box of the pair and G its countable true boxes:

    CorLoc(t) = |{pairs with max over g in G of IoU(b, g) >= t}| / |pairs|          (micro)

The macro value is the mean of the same share over classes.
"""

from collections.abc import Sequence

import numpy as np

from mining.arrays import Bools, Floats, Ints
from mining.evaluation.bootstrap import bootstrap_corloc, bootstrap_means
from mining.evaluation.boxes import Detections, Overlaps, TruthBoxes, compute_overlaps, count_classes, encode_pairs
from mining.evaluation.metrics.hits import IOU_THRESHOLD, PairResults, mean_or_none
from mining.evaluation.metrics.instance_recall import InstanceRecall
from mining.evaluation.scores import BaselineScores, ClassCorLoc, CorLocScores

DEFINITION = (
    "Over all (image, class) pairs for which the truth has at least one countable box (not difficult, ignore or "
    "crowd), the share whose best-scored predicted box of that class has IoU >= 0.5 with any countable true box of "
    "that class. Pairs without a prediction are misses. Boxes are half-open (no +1). Images: those of the truth that "
    "are in the run's corpus. value: mean over pairs; macro: mean over classes; ci95: percentile bootstrap over images."
)


def corloc(truth: TruthBoxes, predicted: Detections, *, iou_threshold: float = IOU_THRESHOLD) -> float | None:
    """Compute CorLoc over pairs (micro).

    Args:
        truth: True boxes of the images of interest only: each of their pairs counts.
        predicted: Predicted boxes.
        iou_threshold: IoU from which a box is correct, in (0, 1].

    Returns:
        A share in [0, 1]; None where the ground truth has no countable box.
    """
    return mean_or_none(pair_results(truth, predicted).best_iou >= iou_threshold)


def pair_results(truth: TruthBoxes, predicted: Detections, overlaps: Overlaps | None = None) -> PairResults:
    """Collect the pairs of the ground truth with what was predicted for each, ascending by image, then by class.

    Args:
        truth: True boxes.
        predicted: Predicted boxes.
        overlaps: `compute_overlaps(truth, predicted)`, where it is known already.

    Returns:
        One row per pair.
    """
    overlaps = overlaps or compute_overlaps(truth, predicted)
    classes = count_classes(truth, predicted)
    pair_codes = np.unique(encode_pairs(truth.image, truth.category, classes)[truth.is_countable])
    box_codes = encode_pairs(predicted.image, predicted.category, classes)
    row = np.searchsorted(pair_codes, box_codes)
    in_pair = np.flatnonzero(np.append(pair_codes, -1)[row] == box_codes)
    row = row[in_pair]
    any_iou = np.zeros(len(pair_codes))
    np.maximum.at(any_iou, row, overlaps.prediction_iou[in_pair])
    order = np.lexsort((-predicted.scores[in_pair], row))
    starts = np.unique(row[order], return_index=True)[1]
    best_iou, two_best_iou = (np.zeros(len(pair_codes)) for _ in range(2))
    best_iou[row[order[starts]]] = overlaps.prediction_iou[in_pair[order[starts]]]
    place = np.arange(len(order)) - np.repeat(starts, np.diff(np.append(starts, len(order))))  # within the pair
    two = order[place < 2]
    np.maximum.at(two_best_iou, row[two], overlaps.prediction_iou[in_pair[two]])
    predictions = np.bincount(row, minlength=len(pair_codes))
    return PairResults(pair_codes // classes, pair_codes % classes, best_iou, two_best_iou, any_iou, predictions)


def corloc_scores(
    truth: TruthBoxes,
    predicted: Detections,
    overlaps: Overlaps,
    classes: Sequence[str],
    *,
    images: int,
    seed: int,
    resamples: int,
) -> CorLocScores:
    """Compute the `corloc` part of scores.json.

    Args:
        truth: True boxes.
        predicted: Predicted boxes.
        overlaps: `compute_overlaps(truth, predicted)`.
        classes: Class names; `category` of both box tables counts into them.
        images: Number of images.
        seed: Seed of the bootstrap over images.
        resamples: Number of resamples; 0 for no intervals.

    Returns:
        Shares in [0, 1], None where nothing can be counted.
    """
    pairs = pair_results(truth, predicted, overlaps)
    hit = pairs.best_iou >= IOU_THRESHOLD
    per_class = _per_class(hit, pairs.category, classes)
    ci95, macro_ci95 = bootstrap_corloc(hit, pairs, seed=seed, resamples=resamples)
    at_low, at_high, any_box = pairs.best_iou >= 0.3, pairs.best_iou >= 0.7, pairs.any_iou >= IOU_THRESHOLD
    intervals = bootstrap_means(pairs.image, [at_low, at_high, any_box], seed=seed, resamples=resamples)
    is_object = truth.is_countable
    found = overlaps.truth_iou[is_object] >= IOU_THRESHOLD
    (found_ci95,) = bootstrap_means(truth.image[is_object], [found], seed=seed, resamples=resamples)
    recall = InstanceRecall(truth, predicted, overlaps)
    return {
        "value": mean_or_none(hit),
        "ci95": ci95,
        "definition": DEFINITION,
        "macro": mean_or_none([row["value"] for row in per_class.values()]),
        "macro_ci95": macro_ci95,
        "pairs": len(hit),
        "at_0.3": mean_or_none(at_low),
        "at_0.7": mean_or_none(at_high),
        "any_box": mean_or_none(any_box),
        "at_0.3_ci95": intervals[0],
        "at_0.7_ci95": intervals[1],
        "any_box_ci95": intervals[2],
        "instance_recall": mean_or_none(found),
        "instance_recall_ci95": found_ci95,
        "instance_recall_at_1_fp": recall.at(images),
        "instance_recall_at_1_fp_ci95": recall.interval(images, seed=seed, resamples=resamples),
        "boxes_per_pair": mean_or_none(pairs.predictions),
        "per_class": per_class,
    }


def baseline_scores(truth: TruthBoxes, sizes: Floats) -> BaselineScores:
    """Compute CorLoc of two content-independent boxes on the same pairs: the whole image and a centred box.

    Args:
        truth: True boxes.
        sizes: (N, 2) width and height of the images in pixels; pairs of images with NaN there are left out.

    Returns:
        Shares in [0, 1], None where nothing can be counted.
    """
    no_boxes = Detections(np.empty(0, int), np.empty(0, int), np.empty((0, 4)), np.empty(0))
    pairs = pair_results(truth, no_boxes)
    size = sizes[pairs.image]
    is_known = np.isfinite(size).all(axis=1)

    def corloc_of_centred_box(side: float) -> float | None:
        xywh = np.concatenate([size * (1 - side) / 2, size * side], axis=1)[is_known]
        boxes = Detections(pairs.image[is_known], pairs.category[is_known], xywh, np.ones(int(is_known.sum())))
        return mean_or_none(pair_results(truth, boxes).best_iou[is_known] >= IOU_THRESHOLD)

    return {
        "whole_image": corloc_of_centred_box(1.0),
        "centred_half_area": corloc_of_centred_box(float(np.sqrt(0.5))),
    }


def _per_class(hit: Bools, category: Ints, classes: Sequence[str]) -> dict[str, ClassCorLoc]:
    pairs = np.bincount(category, minlength=len(classes))
    hits = np.bincount(category[hit], minlength=len(classes))
    return {
        name: {"value": float(hits[i] / pairs[i]), "pairs": int(pairs[i])} for i, name in enumerate(classes) if pairs[i]
    }
