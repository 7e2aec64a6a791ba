"""Intervals of COCO's AP by a bootstrap over images.

Whether the predictions of an image are correct depends on that image alone. Resampling images therefore changes only
how often each prediction and each object counts; an image drawn twice counts twice, as it would for pycocotools.
"""

from typing import Any

import numpy as np

from mining.arrays import Bools, Ints, jit
from mining.evaluation.bootstrap import affordable, bias_corrected_interval, resample_image_counts
from mining.evaluation.boxes import TruthBoxes
from mining.evaluation.metrics.coco import AREAS, RECALLS, CocoMatches
from mining.evaluation.scores import Interval

_ALL = list(AREAS).index("all")


def coco_intervals(
    truth: TruthBoxes, matches: CocoMatches, *, seed: int, resamples: int
) -> tuple[Interval | None, Interval | None]:
    """Bootstrap AP and AP50; a class that a resample lacks is left out of its mean.

    Args:
        truth: True boxes.
        matches: `match_detections` of the same.
        seed: Seed of the resampling.
        resamples: Number of resamples. Above 200,000 predictions fewer are drawn, at least 100.

    Returns:
        The 95 % intervals of AP and AP50; None for both without objects or resamples.
    """
    if not truth.is_countable.any() or resamples < 1:
        return None, None
    state = resampling_state(truth, matches)
    images = 1 + max(int(positions.max(initial=0)) for positions in (truth.image, matches.image))
    counts = resample_image_counts(images, seed=seed, resamples=affordable(resamples, len(matches.scores)))
    precision = np.stack([weighted_precision(times, *state, RECALLS) for block in counts for times in block])
    whole = weighted_precision(np.ones(images, np.int64), *state, RECALLS)
    return (
        bias_corrected_interval(precision.mean(axis=1), float(whole.mean()), within=(0, 1)),
        bias_corrected_interval(precision[:, 0], float(whole[0]), within=(0, 1)),
    )


def resampling_state(truth: TruthBoxes, matches: CocoMatches) -> tuple[Any, ...]:
    """Return what `weighted_precision` needs beside how often each image was drawn.

    Args:
        truth: True boxes.
        matches: `match_detections` of the same.

    Returns:
        image: (n,) images of the predictions, by class and falling score.
        object_image: (m,) images of the objects to be found, by class.
        first, last, first_object, last_object: (C,) range of each class that has an object, among both.
        correct, correct_from, correct_to: Rows of correct predictions, IoU by IoU, and (T, C) the range of each IoU
            and class among them.
        ignored, ignored_from, ignored_to: The same for ignored predictions.
    """
    objects = truth.where(truth.is_countable)
    order = np.lexsort((-matches.scores, matches.category))  # stable, as for the figures themselves
    matched, ignored = matches.matched[_ALL][:, order], matches.ignored[_ALL][:, order]
    by_class = np.argsort(objects.category, kind="stable")
    categories = matches.category[order], objects.category[by_class]
    classes = np.unique(categories[1])
    borders = [np.searchsorted(of, classes, side) for of in categories for side in ("left", "right")]
    rows = (_true_columns(flags, *borders[:2]) for flags in (matched & ~ignored, ignored))
    return matches.image[order], objects.image[by_class], *borders, *(part for three in rows for part in three)


def _true_columns(flags: Bools, first: Ints, last: Ints) -> tuple[Ints, Ints, Ints]:
    """The columns of a (T, n) table that are true, row by row, and (T, C) the range of each class among them."""
    iou, columns = np.nonzero(flags)
    width = flags.shape[1]
    code = iou * width + columns
    starts = np.arange(len(flags))[:, None] * width
    return columns, np.searchsorted(code, starts + first), np.searchsorted(code, starts + last)


@jit
def weighted_precision(
    times: Any, image: Any, object_image: Any, first: Any, last: Any, first_object: Any, last_object: Any,
    correct: Any, correct_from: Any, correct_to: Any, ignored: Any, ignored_from: Any, ignored_to: Any, recalls: Any,
) -> Any:  # fmt: skip
    """Compute AP at each IoU where image i counts times[i] times: (T,) means over classes of precision at the recalls.

    All arguments between `times` and `recalls` (R, ascending from 0) are those of `resampling_state`. Only correct
    predictions are visited: between two of them precision falls, and the best one is wanted.
    """
    total, classes = np.zeros(len(correct_from)), 0
    visited = np.empty(len(image) + 1, np.int64)
    for number in range(len(first)):
        objects = 0
        for row in range(first_object[number], last_object[number]):
            objects += times[object_image[row]]
        if not objects:
            continue
        classes += 1
        visited[first[number]] = 0
        for row in range(first[number], last[number]):
            visited[row + 1] = visited[row] + times[image[row]]
        for t in range(len(total)):
            found = 0
            for i in range(correct_from[t, number], correct_to[t, number]):
                found += visited[correct[i] + 1] - visited[correct[i]]
            skipped, other = 0, ignored_to[t, number] - 1
            for i in range(ignored_from[t, number], ignored_to[t, number]):
                skipped += visited[ignored[i] + 1] - visited[ignored[i]]
            area, best, place = 0.0, 0.0, len(recalls) - 1
            for i in range(correct_to[t, number] - 1, correct_from[t, number] - 1, -1):  # from the highest recall
                row = correct[i]
                count = visited[row + 1] - visited[row]
                if not count:
                    continue
                while other >= ignored_from[t, number] and ignored[other] > row:
                    skipped -= visited[ignored[other] + 1] - visited[ignored[other]]
                    other -= 1
                best = max(best, found / (visited[row + 1] - skipped))
                while place > 0 and recalls[place] > found / objects:
                    place -= 1
                found -= count
                while place > 0 and recalls[place] > found / objects:
                    area += best
                    place -= 1
            total[t] += (area + best) / len(recalls)  # at recall 0 the best of all
    return total / max(1, classes)
