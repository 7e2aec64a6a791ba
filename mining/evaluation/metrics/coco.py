"""COCO's twelve numbers, bit for bit those of pycocotools, in a thirtieth of its time.

pycocotools visits every (image, class) in Python, 40 times over: minutes for a million boxes. Here the visits are
jit, and only those that hold a box are made. What it computes is kept to the operation, so that the numbers are
the same and not merely close; the tests compare the two.

    evaluation     a prediction, surest first and at most 100 an (image, class), takes the true box that it overlaps
                   most of those not taken, at each IoU of 0.5, 0.55, ... 0.95, and an ignored one only where no other
                   will do; for each range of areas the objects outside it are ignored too
    accumulation   best precision at recalls 0, 0.01, ... 1 and highest recall, by class, IoU, area, detections an image
    summary        their means over what is defined
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mining.arrays import Bools, Floats, Ints, jit
from mining.evaluation.boxes import Detections, TruthBoxes, class_count, pair_codes

NUMBERS = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl")
IOU_THRESHOLDS = np.linspace(0.5, 0.95, 10)
RECALLS = np.linspace(0.0, 1.0, 101)
# px^2, both ends included
AREAS = {"all": (0.0, 1e10), "small": (0.0, 32.0**2), "medium": (32.0**2, 96.0**2), "large": (96.0**2, 1e10)}
MAX_DETECTIONS = 100
_RECALLED = (("all", 1), ("all", 10), *((area, MAX_DETECTIONS) for area in AREAS))


@dataclass(frozen=True)
class Matches:
    """n predictions by class, then image, then falling score, and what becomes of each at every IoU and area.

    image, category, rank: (n,) image, class and place in its image and class. scores: (n,).
    matched, ignored: (A, T, n) bool. objects: (A, C) to be found, by area and class.
    """

    image: Ints
    category: Ints
    rank: Ints
    scores: Floats
    matched: Bools
    ignored: Bools
    objects: Ints


def coco_scores(truth: TruthBoxes, predicted: Detections, classes: Sequence[str]) -> dict[str, Any]:
    """AP, AP50, ... ARl (boxes, at most 100 an image and class) and `per_class_AP50` by class name.

    classes: names; `category` in truth and predictions counts into them.
    Ignored true boxes act as COCO's crowds do (a match is neither right nor wrong), yet only real crowds are compared
    by the share of the prediction inside them. pycocotools overwrites `ignore` by `iscrowd`, so that difficult objects
    would count; here they do not.
    Values in [0, 1]; None where there is no true box to find.
    """
    return coco_numbers(truth, matches_of(truth, predicted), classes)


def coco_numbers(truth: TruthBoxes, matches: Matches, classes: Sequence[str]) -> dict[str, Any]:
    """`coco_scores` of predictions that are compared with the truth already."""
    used = [int(category) for category in np.unique(truth.category)]
    if not used:
        return {**dict.fromkeys(NUMBERS), "per_class_AP50": {}}
    # classes last, as pycocotools has them: the order of a sum shows in its last bit
    precision = {area: np.stack([precision_of(matches, one, area) for one in used], axis=-1) for area in AREAS}
    half = precision["all"][0]
    numbers = [
        _mean_found(one)
        for one in (
            precision["all"], half, precision["all"][5], precision["small"], precision["medium"], precision["large"],
            *(np.stack([recall_of(matches, one, area, most) for one in used], axis=-1) for area, most in _RECALLED),
        )
    ]  # fmt: skip
    per_class = {classes[category]: _mean_found(half[:, place]) for place, category in enumerate(used)}
    return {
        **dict(zip(NUMBERS, numbers, strict=True)),
        "per_class_AP50": {name: value for name, value in per_class.items() if value is not None},
    }


# --- evaluation ------------------------------------------------------------------------------------------------------


def matches_of(truth: TruthBoxes, predicted: Detections) -> Matches:
    """Which predictions have a true box at every IoU, for every range of areas."""
    images = 1 + max(int(truth.image.max(initial=0)), int(predicted.image.max(initial=0)))
    classes = class_count(truth, predicted)
    code = pair_codes(predicted.category, predicted.image, images)
    order = np.lexsort((-predicted.scores, code))
    rank = _rank(code[order])
    order, rank = order[rank < MAX_DETECTIONS], rank[rank < MAX_DETECTIONS]
    true_code = pair_codes(truth.category, truth.image, images)
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
    of_class = truth.category[true_order]
    objects = np.stack([np.bincount(of_class[~one], minlength=classes) for one in ignored])
    return Matches(
        predicted.image[order], predicted.category[order], rank, predicted.scores[order], matched, is_ignored, objects
    )


def _rank(code: Ints) -> Ints:
    """(n,) the place of each among those of its code, which ascends."""
    first = np.unique(code, return_index=True, return_inverse=True)
    return np.arange(len(code)) - first[1][first[2]]


def _outside(area: Floats, ranges: Floats) -> Bools:
    """(A, n) whether areas (n,) are outside the ranges (A, 2)."""
    return (area < ranges[:, :1]) | (area > ranges[:, 1:])


@jit
def _matched(
    xywh: Any, true_xywh: Any, is_crowd: Any, ignored: Any, outside: Any, borders: Any, first: Any, last: Any, ious: Any
) -> Any:
    """(A, T, n) whether each prediction has a true box, and whether it is neither right nor wrong."""
    areas, count = outside.shape
    matched = np.zeros((areas, len(ious), count), np.bool_)
    neither = np.zeros((areas, len(ious), count), np.bool_)
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
            place = 0  # those that count go first
            for wanted in (False, True):
                for g in range(total):
                    if ignored[area, true_start + g] == wanted:
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
                        neither[area, t, start + d] = ignored[area, true_start + best]
                    else:
                        neither[area, t, start + d] = outside[area, start + d]
    return matched, neither


@jit
def overlap_of(box: Any, true_box: Any, is_crowd: Any) -> Any:
    """IoU; of a crowd the share of the box inside it."""
    width = min(box[2] + box[0], true_box[2] + true_box[0]) - max(box[0], true_box[0])
    if width <= 0:
        return 0.0
    height = min(box[3] + box[1], true_box[3] + true_box[1]) - max(box[1], true_box[1])
    if height <= 0:
        return 0.0
    common, area = width * height, box[2] * box[3]
    return common / (area if is_crowd else area + true_box[2] * true_box[3] - common)


# --- accumulation ----------------------------------------------------------------------------------------------------


def precision_of(matches: Matches, category: int, area: str, most: int = MAX_DETECTIONS) -> Floats:
    """(T, R) the best precision at each recall, of at most so many boxes an image; -1 where there is no object."""
    table = np.full((len(IOU_THRESHOLDS), len(RECALLS)), -1.0)
    for t, (right, wrong, objects) in enumerate(_counts(matches, category, area, most)):
        precision = right / (wrong + right + np.spacing(1))
        best = np.append(np.maximum.accumulate(precision[::-1])[::-1], 0.0)
        table[t] = best[np.searchsorted(right / objects, RECALLS, "left")]
    return table


def recall_of(matches: Matches, category: int, area: str, most: int) -> Floats:
    """(T,) the share of objects found by at most so many boxes an image; -1 where there is no object."""
    found = np.full(len(IOU_THRESHOLDS), -1.0)
    for t, (right, _, objects) in enumerate(_counts(matches, category, area, most)):
        found[t] = right[-1] / objects if len(right) else 0.0
    return found


def _counts(matches: Matches, category: int, area: str, most: int) -> Iterator[tuple[Floats, Floats, int]]:
    """For each IoU how many are right and wrong after each prediction, surest first, and the objects to be found.

    Nothing where there are none.
    """
    place = list(AREAS).index(area)
    objects = int(matches.objects[place, category])
    if not objects:
        return
    start, end = np.searchsorted(matches.category, [category, category + 1])
    rows = start + np.flatnonzero(matches.rank[start:end] < most)
    rows = rows[np.argsort(-matches.scores[rows], kind="stable")]
    matched, counts = matches.matched[place][:, rows], ~matches.ignored[place][:, rows]
    for right, wrong in zip(matched & counts, ~matched & counts, strict=True):
        yield np.cumsum(right, dtype=np.float64), np.cumsum(wrong, dtype=np.float64), objects


def _mean_found(values: Floats) -> float | None:
    found = values[values > -1]
    return float(found.mean()) if found.size else None
