"""CorLoc, one definition, with what has to be read beside it.

A pair is an image and a class of which the truth has at least one countable box in the image. With b the
best-scored predicted box of the pair and G its countable true boxes:

    CorLoc(t) = |{pairs with max over g in G of IoU(b, g) >= t}| / |pairs|          (micro)

The macro value is the mean of the same share over classes.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mining.arrays import Bools, Floats, Ints
from mining.evaluation.boxes import Detections, Overlaps, TruthBoxes, class_count, overlaps, pair_codes
from mining.evaluation.metrics.rules import mean_of

DEFINITION = (
    "Over all (image, class) pairs for which the truth has at least one countable box (not difficult, ignore or "
    "crowd), the share whose best-scored predicted box of that class has IoU >= 0.5 with any countable true box of "
    "that class. Pairs without a prediction are misses. Boxes are half-open (no +1). Images: those of the truth that "
    "are in the run's corpus. value: mean over pairs; macro: mean over classes; ci95: percentile bootstrap over images."
)
IOU_THRESHOLD = 0.5
_DRAWS_AT_ONCE = 2_000_000


@dataclass(frozen=True)
class Pairs:
    """One row for each (image, class) that the truth has a countable box of, P rows.

    image, category: (P,) int.
    best_iou: (P,) best IoU of the best-scored predicted box with a countable true box; 0 without prediction.
    any_iou: (P,) the same for the luckiest predicted box.
    predictions: (P,) int, predicted boxes of the class in the image.
    """

    image: Ints
    category: Ints
    best_iou: Floats
    any_iou: Floats
    predictions: Ints


def corloc(truth: TruthBoxes, predicted: Detections, *, iou_threshold: float = IOU_THRESHOLD) -> float | None:
    """CorLoc (micro) of predicted boxes, in [0, 1]; None where the truth has no countable box.

    Only images of interest belong in `truth`: each of its pairs counts.
    """
    return mean_of(pairs_of(truth, predicted).best_iou >= iou_threshold)


def pairs_of(truth: TruthBoxes, predicted: Detections, found: Overlaps | None = None) -> Pairs:
    """The pairs of the truth with what was predicted for each, ascending by image, then by class.

    found: the overlaps of the same boxes, where they are known already.
    """
    found = found or overlaps(truth, predicted)
    classes = class_count(truth, predicted)
    codes = np.unique(pair_codes(truth.image, truth.category, classes)[truth.is_countable])
    code = pair_codes(predicted.image, predicted.category, classes)
    row = np.searchsorted(codes, code)
    in_pair = np.flatnonzero(np.append(codes, -1)[row] == code)
    row = row[in_pair]
    any_iou = np.zeros(len(codes))
    np.maximum.at(any_iou, row, found.prediction_iou[in_pair])
    order = np.lexsort((-predicted.scores[in_pair], row))
    first = order[np.unique(row[order], return_index=True)[1]]
    best_iou = np.zeros(len(codes))
    best_iou[row[first]] = found.prediction_iou[in_pair[first]]
    return Pairs(codes // classes, codes % classes, best_iou, any_iou, np.bincount(row, minlength=len(codes)))


def corloc_scores(
    truth: TruthBoxes, predicted: Detections, found: Overlaps, classes: Sequence[str], *, seed: int, resamples: int
) -> dict[str, Any]:
    """The `corloc` part of scores.json: shares in [0, 1], None where nothing can be counted."""
    pairs = pairs_of(truth, predicted, found)
    hit = pairs.best_iou >= IOU_THRESHOLD
    per_class = _per_class(hit, pairs.category, classes)
    ci95, macro_ci95 = bootstrap_ci95(hit, pairs, seed=seed, resamples=resamples)
    others = {
        "at_0.3": pairs.best_iou >= 0.3,
        "at_0.7": pairs.best_iou >= 0.7,
        "any_box": pairs.any_iou >= IOU_THRESHOLD,
    }
    intervals = bootstrap_means(pairs.image, list(others.values()), seed=seed, resamples=resamples)
    return {
        "value": mean_of(hit),
        "ci95": ci95,
        "definition": DEFINITION,
        "macro": mean_of([row["value"] for row in per_class.values()]),
        "macro_ci95": macro_ci95,
        "pairs": len(hit),
        **{name: mean_of(verdict) for name, verdict in others.items()},
        **{f"{name}_ci95": interval for name, interval in zip(others, intervals, strict=True)},
        "instance_recall": mean_of(found.truth_iou[truth.is_countable] >= IOU_THRESHOLD),
        "boxes_per_pair": mean_of(pairs.predictions),
        "per_class": per_class,
    }


def baseline_scores(truth: TruthBoxes, sizes: Floats) -> dict[str, float | None]:
    """CorLoc of two boxes that look at nothing, on the same pairs.

    sizes: (N, 2) width and height of the images; pairs of images with NaN there are left out.
    """
    empty = Detections(np.empty(0, int), np.empty(0, int), np.empty((0, 4)), np.empty(0))
    pairs = pairs_of(truth, empty)
    size = sizes[pairs.image]
    known = np.isfinite(size).all(axis=1)

    def score_of(side: float) -> float | None:
        xywh = np.concatenate([size * (1 - side) / 2, size * side], axis=1)[known]
        boxes = Detections(pairs.image[known], pairs.category[known], xywh, np.ones(int(known.sum())))
        return mean_of(pairs_of(truth, boxes).best_iou[known] >= IOU_THRESHOLD)

    return {"whole_image": score_of(1.0), "centred_half_area": score_of(float(np.sqrt(0.5)))}


def false_positives(found: Overlaps) -> Bools:
    """(n,) the predictions that are on nothing of their class.

    True where IoU is below 0.5 with every countable true box of the class in the image and less than half of the
    box lies inside an ignored one (difficult, ignore or crowd).
    """
    return (found.prediction_iou < IOU_THRESHOLD) & (found.prediction_ignored < 0.5)


def bootstrap_ci95(
    hit: Bools, pairs: Pairs, *, seed: int, resamples: int
) -> tuple[list[float] | None, list[float] | None]:
    """95 % percentile intervals of the micro and the macro CorLoc, images drawn with replacement.

    hit: (P,) one verdict a pair. All pairs of a drawn image are drawn. None where there is no pair or no resample.
    A class that a resample lacks is left out of that resample's macro mean.
    """
    if not len(hit) or resamples < 1:
        return None, None
    images, image = np.unique(pairs.image, return_inverse=True)
    order = np.argsort(pairs.category, kind="stable")
    starts = np.unique(pairs.category[order], return_index=True)[1]
    rng, micro, macro = np.random.default_rng(seed), [], []
    for counts in drawn_counts(rng, resamples, len(images), len(hit)):
        drawn = counts[:, image[order]]
        total = np.add.reduceat(drawn, starts, axis=1)
        good = np.add.reduceat(drawn * hit[order], starts, axis=1)
        micro.append(good.sum(axis=1) / total.sum(axis=1))
        macro.append((good / np.maximum(total, 1)).sum(axis=1) / (total > 0).sum(axis=1))
    return _interval(micro), _interval(macro)


def bootstrap_means(
    image: Ints, verdicts: Sequence[Floats | Bools], *, seed: int, resamples: int
) -> list[list[float] | None]:
    """95 % percentile intervals of several means over the same P pairs, images drawn with replacement.

    image: (P,) int, whose pair it is; all pairs of an image are drawn together. verdicts: each (P,).
    None for each where there is no pair or no resample.
    """
    if not len(image) or resamples < 1:
        return [None] * len(verdicts)
    images, row = np.unique(image, return_inverse=True)
    sums = np.stack([np.bincount(row, weights=one) for one in (*verdicts, np.ones(len(row)))], axis=1)
    rng = np.random.default_rng(seed)
    drawn = np.concatenate([counts @ sums for counts in drawn_counts(rng, resamples, len(images), len(images))])
    return [_interval([one]) for one in (drawn[:, :-1] / drawn[:, -1:]).T]


def drawn_counts(rng: np.random.Generator, resamples: int, images: int, pairs: int) -> Iterator[Ints]:
    """How often each image came up, in blocks of resamples, (n, images) each; `pairs` bounds a block's memory."""
    for size in _block_sizes(resamples, pairs):
        yield _times_drawn(rng, size, images)


def _times_drawn(rng: np.random.Generator, resamples: int, images: int) -> Ints:
    """(resamples, images) how often each image came up when as many as there are were drawn."""
    drawn = rng.integers(0, images, size=(resamples, images))
    drawn += np.arange(resamples)[:, None] * images
    return np.bincount(drawn.ravel(), minlength=resamples * images).reshape(resamples, images)


def _block_sizes(resamples: int, pairs: int) -> list[int]:
    block = max(1, _DRAWS_AT_ONCE // pairs)
    return [min(block, resamples - done) for done in range(0, resamples, block)]


def _interval(values: Sequence[Floats]) -> list[float]:
    return [float(v) for v in np.percentile(np.concatenate(values), [2.5, 97.5])]


def _per_class(hit: Bools, category: Ints, classes: Sequence[str]) -> dict[str, dict[str, Any]]:
    total = np.bincount(category, minlength=len(classes))
    good = np.bincount(category[hit], minlength=len(classes))
    return {
        name: {"value": float(good[i] / total[i]), "pairs": int(total[i])} for i, name in enumerate(classes) if total[i]
    }
