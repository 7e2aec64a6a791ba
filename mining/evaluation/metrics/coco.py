"""COCO's twelve figures, bit for bit those of pycocotools, in a thirtieth of its time.

pycocotools visits every (image, class) in Python, 40 times over: minutes for a million boxes. Here the loops are
compiled, and only the (image, class) pairs that hold a box are visited. The operations and their order are those of
pycocotools, so that the figures are equal, not merely close; the tests compare the two.

    evaluation     at each IoU of 0.5, 0.55, ... 0.95 the predictions of an (image, class), by falling score and at most
                   100, are each matched with the true box of highest IoU among those not matched yet, with an ignored
                   one only where no other reaches the IoU; for each range of areas the objects outside it are ignored
    accumulation   best precision at recalls 0, 0.01, ... 1 and highest recall, by class, IoU, area and detections per
                   image
    summary        their means over what is defined
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np

from mining.arrays import Bools, Floats, Ints, jit
from mining.evaluation.boxes import Detections, TruthBoxes, count_classes, encode_pairs
from mining.evaluation.scores import CocoFigures

NUMBERS = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl")
IOU_THRESHOLDS = np.linspace(0.5, 0.95, 10)
RECALLS = np.linspace(0.0, 1.0, 101)
# px^2, both ends included
AREAS = {"all": (0.0, 1e10), "small": (0.0, 32.0**2), "medium": (32.0**2, 96.0**2), "large": (96.0**2, 1e10)}
MAX_DETECTIONS = 100
_RECALLS_SHOWN = (("all", 1), ("all", 10), *((area, MAX_DETECTIONS) for area in AREAS))


@dataclass(frozen=True)
class CocoMatches:
    """n predictions by class, image and falling score, with the outcome of each at every IoU and range of areas.

    Attributes:
        image: (n,) int.
        category: (n,) int.
        rank: (n,) int, place by score in its image and class, from 0.
        scores: (n,) float64.
        matched: (A, T, n) bool, whether the prediction has a true box.
        ignored: (A, T, n) bool, whether it counts neither as correct nor as wrong.
        objects: (A, C) int, objects to be found, by range of areas and class.
    """

    image: Ints
    category: Ints
    rank: Ints
    scores: Floats
    matched: Bools
    ignored: Bools
    objects: Ints


def coco_scores(truth: TruthBoxes, predicted: Detections, classes: Sequence[str]) -> CocoFigures:
    """Compute COCO's figures for boxes.

    Ignored true boxes act as COCO's crowds do (a match is neither right nor wrong), but only real crowds are compared
    by the share of the prediction inside them. pycocotools overwrites `ignore` by `iscrowd`, so that difficult objects
    would count; here they do not.

    Args:
        truth: True boxes.
        predicted: Predicted boxes; at most 100 per image and class are used, those that score highest.
        classes: Class names; `category` of both box tables counts into them.

    Returns:
        AP, AP50, ... ARl in [0, 1] and `per_class_AP50` by class name; None where there is no object to be found.
    """
    return summarize_matches(truth, match_detections(truth, predicted), classes)


def summarize_matches(truth: TruthBoxes, matches: CocoMatches, classes: Sequence[str]) -> CocoFigures:
    """Compute `coco_scores` from matches that are known already."""
    used = [int(category) for category in np.unique(truth.category)]
    if not used:
        return figures_by_name([None] * len(NUMBERS), {})
    # classes last, as in pycocotools: the order of a sum shows in its last bit
    precision = {area: np.stack([precision_at_recalls(matches, c, area) for c in used], axis=-1) for area in AREAS}
    half = precision["all"][0]
    figures = [
        _mean_defined(table)
        for table in (
            precision["all"], half, precision["all"][5], precision["small"], precision["medium"], precision["large"],
            *(np.stack([max_recall(matches, c, area, most) for c in used], axis=-1) for area, most in _RECALLS_SHOWN),
        )
    ]  # fmt: skip
    per_class = {classes[category]: _mean_defined(half[:, place]) for place, category in enumerate(used)}
    return figures_by_name(figures, {name: value for name, value in per_class.items() if value is not None})


def figures_by_name(figures: Sequence[float | None], per_class: dict[str, float]) -> CocoFigures:
    """Name the twelve figures, in the order of NUMBERS."""
    return cast(CocoFigures, {**dict(zip(NUMBERS, figures, strict=True)), "per_class_AP50": per_class})


# --- evaluation ------------------------------------------------------------------------------------------------------


def match_detections(truth: TruthBoxes, predicted: Detections) -> CocoMatches:
    """Match predictions with true boxes at every IoU and for every range of areas.

    Args:
        truth: True boxes.
        predicted: Predicted boxes.

    Returns:
        The outcome of the at most 100 highest-scored predictions of each image and class.
    """
    images = 1 + max(int(truth.image.max(initial=0)), int(predicted.image.max(initial=0)))
    classes = count_classes(truth, predicted)
    code = encode_pairs(predicted.category, predicted.image, images)
    order = np.lexsort((-predicted.scores, code))
    rank = _rank(code[order])
    order, rank = order[rank < MAX_DETECTIONS], rank[rank < MAX_DETECTIONS]
    true_code = encode_pairs(truth.category, truth.image, images)
    true_order = np.argsort(true_code, kind="stable")
    xywh, true_xywh = predicted.xywh[order], truth.xywh[true_order]
    ranges = np.array(list(AREAS.values()))
    outside = _outside(xywh[:, 2] * xywh[:, 3], ranges)
    ignored = truth.is_ignored[true_order] | _outside(truth.area[true_order], ranges)
    pairs, first = np.unique(code[order], return_index=True)
    borders = np.append(first, len(order))
    true_borders = np.searchsorted(true_code[true_order], pairs), np.searchsorted(true_code[true_order], pairs, "right")
    matched, is_ignored = _matched(
        xywh, true_xywh, truth.is_crowd[true_order], ignored, outside, borders, *true_borders,
        np.minimum(IOU_THRESHOLDS, 1 - 1e-10),
    )  # fmt: skip
    true_category = truth.category[true_order]
    objects = np.stack([np.bincount(true_category[~flags], minlength=classes) for flags in ignored])
    return CocoMatches(
        predicted.image[order], predicted.category[order], rank, predicted.scores[order], matched, is_ignored, objects
    )


def _rank(code: Ints) -> Ints:
    """(n,) the place of each row among those of its code; codes ascend."""
    first = np.unique(code, return_index=True, return_inverse=True)
    return np.arange(len(code)) - first[1][first[2]]


def _outside(area: Floats, ranges: Floats) -> Bools:
    """(A, n) whether areas (n,) are outside the ranges (A, 2)."""
    return (area < ranges[:, :1]) | (area > ranges[:, 1:])


@jit
def _matched(
    xywh: Any, true_xywh: Any, is_crowd: Any, ignored: Any, outside: Any, borders: Any, first: Any, last: Any, ious: Any
) -> Any:
    """(A, T, n) whether each prediction has a true box, and whether it is ignored."""
    areas, count = outside.shape
    matched = np.zeros((areas, len(ious), count), np.bool_)
    is_ignored = np.zeros((areas, len(ious), count), np.bool_)
    for pair in range(len(first)):
        start, end, true_start = borders[pair], borders[pair + 1], first[pair]
        total = last[pair] - true_start
        overlap = np.empty((end - start, total))
        for d in range(end - start):
            for g in range(total):
                overlap[d, g] = overlap_of(xywh[start + d], true_xywh[true_start + g], is_crowd[true_start + g])
        order = np.empty(total, np.int64)
        taken = np.empty(total, np.bool_)
        for area in range(areas):
            place = 0  # countable true boxes first
            for flag in (False, True):
                for g in range(total):
                    if ignored[area, true_start + g] == flag:
                        order[place] = g
                        place += 1
            for t in range(len(ious)):
                taken[:] = False
                for d in range(end - start):
                    best, least = -1, ious[t]
                    for g in order:
                        if taken[g] and not is_crowd[true_start + g]:
                            continue
                        if best > -1 and ignored[area, true_start + g] and not ignored[area, true_start + best]:
                            break
                        if overlap[d, g] >= least:
                            best, least = g, overlap[d, g]
                    if best > -1:
                        taken[best] = True
                        matched[area, t, start + d] = True
                        is_ignored[area, t, start + d] = ignored[area, true_start + best]
                    else:
                        is_ignored[area, t, start + d] = outside[area, start + d]
    return matched, is_ignored


@jit
def overlap_of(box: Any, true_box: Any, is_crowd: Any) -> Any:
    """Return the IoU of two boxes x, y, w, h; with a crowd the share of the box inside it."""
    width = min(box[2] + box[0], true_box[2] + true_box[0]) - max(box[0], true_box[0])
    if width <= 0:
        return 0.0
    height = min(box[3] + box[1], true_box[3] + true_box[1]) - max(box[1], true_box[1])
    if height <= 0:
        return 0.0
    common, area = width * height, box[2] * box[3]
    return common / (area if is_crowd else area + true_box[2] * true_box[3] - common)


# --- accumulation ----------------------------------------------------------------------------------------------------


def precision_at_recalls(matches: CocoMatches, category: int, area: str, most: int = MAX_DETECTIONS) -> Floats:
    """Compute the best precision at each recall for one class.

    Args:
        matches: Outcomes of the predictions.
        category: Class number.
        area: Range of areas, a key of AREAS.
        most: Predictions per image that are used.

    Returns:
        (T, R) precision; -1 where there is no object.
    """
    table = np.full((len(IOU_THRESHOLDS), len(RECALLS)), -1.0)
    for t, (correct, wrong, objects) in enumerate(_cumulative_counts(matches, category, area, most)):
        precision = correct / (wrong + correct + np.spacing(1))
        best = np.append(np.maximum.accumulate(precision[::-1])[::-1], 0.0)
        table[t] = best[np.searchsorted(correct / objects, RECALLS, "left")]
    return table


def max_recall(matches: CocoMatches, category: int, area: str, most: int) -> Floats:
    """Compute the share of a class's objects that is found.

    Args:
        matches: Outcomes of the predictions.
        category: Class number.
        area: Range of areas, a key of AREAS.
        most: Predictions per image that are used.

    Returns:
        (T,) recall; -1 where there is no object.
    """
    recall = np.full(len(IOU_THRESHOLDS), -1.0)
    for t, (correct, _, objects) in enumerate(_cumulative_counts(matches, category, area, most)):
        recall[t] = correct[-1] / objects if len(correct) else 0.0
    return recall


def _cumulative_counts(
    matches: CocoMatches, category: int, area: str, most: int
) -> Iterator[tuple[Floats, Floats, int]]:
    """For each IoU the correct and the wrong predictions so far, by falling score, and the objects to be found.

    Yields nothing where there are no objects.
    """
    place = list(AREAS).index(area)
    objects = int(matches.objects[place, category])
    if not objects:
        return
    start, end = np.searchsorted(matches.category, [category, category + 1])
    rows = start + np.flatnonzero(matches.rank[start:end] < most)
    rows = rows[np.argsort(-matches.scores[rows], kind="stable")]
    matched, countable = matches.matched[place][:, rows], ~matches.ignored[place][:, rows]
    for correct, wrong in zip(matched & countable, ~matched & countable, strict=True):
        yield np.cumsum(correct, dtype=np.float64), np.cumsum(wrong, dtype=np.float64), objects


def _mean_defined(values: Floats) -> float | None:
    defined = values[values > -1]
    return float(defined.mean()) if defined.size else None
