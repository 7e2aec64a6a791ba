"""How far COCO's AP would move with other images of the same kind: a bootstrap over images.

What an image's predictions are right about depends on that image alone. Drawing images anew therefore changes only how
often each prediction and each object counts; an image drawn twice stands there twice, as pycocotools would see it.
"""

from typing import Any

import numpy as np

from mining.arrays import Bools, Floats, Ints, jit
from mining.evaluation.boxes import TruthBoxes
from mining.evaluation.metrics.coco import AREAS, RECALLS, Matches
from mining.evaluation.metrics.corloc import drawn_counts

_ALL = list(AREAS).index("all")
_MOST_WORK = 200_000_000  # predictions times resamples: some seconds
_FEWEST_RESAMPLES = 100


def coco_intervals(truth: TruthBoxes, matches: Matches, *, seed: int, resamples: int) -> dict[str, list[float] | None]:
    """95 % percentile intervals of AP and AP50, `AP_ci95` and `AP50_ci95`; a class none of which is drawn is left out.

    Fewer resamples, but 100 at least, where there are more than 200,000 predictions. None without object or resamples.
    """
    if not truth.is_countable.any() or resamples < 1:
        return {"AP_ci95": None, "AP50_ci95": None}
    state = weighted_state(truth, matches)
    images = 1 + max(int(places.max(initial=0)) for places in (truth.image, matches.image))
    limit = max(_FEWEST_RESAMPLES, _MOST_WORK // max(1, len(matches.scores)))
    rng = np.random.default_rng(seed)
    drawn = np.stack(
        [
            weighted_precision(times, *state, RECALLS)
            for block in drawn_counts(rng, min(resamples, limit), images, images)
            for times in block
        ]
    )
    return {"AP_ci95": _interval(drawn.mean(axis=1)), "AP50_ci95": _interval(drawn[:, 0])}


def weighted_state(truth: TruthBoxes, matches: Matches) -> tuple[Any, ...]:
    """What `weighted_precision` wants to know beside how often each image was drawn.

    image: (n,) of the predictions, by class and falling score; object_image: (m,) of the objects to be found, by class.
    first, last, first_object, last_object: (C,) where each class with an object lies among both.
    right, right_from, right_to: rows of right predictions, IoU after IoU, and (T, C) where those of each IoU and class
    lie; neither, neither_from, neither_to: the same of those that are neither right nor wrong.
    """
    objects = truth.where(truth.is_countable)
    order = np.lexsort((-matches.scores, matches.category))  # stable, as the numbers themselves
    matched, ignored = matches.matched[_ALL][:, order], matches.ignored[_ALL][:, order]
    of_class = np.argsort(objects.category, kind="stable")
    listed = matches.category[order], objects.category[of_class]
    classes = np.unique(listed[1])
    borders = [np.searchsorted(of, classes, side) for of in listed for side in ("left", "right")]
    rows = (_rows(which, *borders[:2]) for which in (matched & ~ignored, ignored))
    return matches.image[order], objects.image[of_class], *borders, *(one for three in rows for one in three)


def _rows(which: Bools, first: Ints, last: Ints) -> tuple[Ints, Ints, Ints]:
    """The columns of a (T, n) table that are true, row after row, and (T, C) where those of each class lie."""
    iou, rows = np.nonzero(which)
    count = which.shape[1]
    code = iou * count + rows
    starts = np.arange(len(which))[:, None] * count
    return rows, np.searchsorted(code, starts + first), np.searchsorted(code, starts + last)


def _interval(values: Floats) -> list[float]:
    return [float(value) for value in np.percentile(values, [2.5, 97.5])]


@jit
def weighted_precision(
    times: Any, image: Any, object_image: Any, first: Any, last: Any, first_object: Any, last_object: Any,
    right: Any, right_from: Any, right_to: Any, neither: Any, neither_from: Any, neither_to: Any, recalls: Any,
) -> Any:  # fmt: skip
    """(T,) the mean over classes of the mean best precision at each recall, image i being there times[i] times.

    Only right predictions are visited: between two of them precision falls, and the best is wanted.
    """
    total, classes = np.zeros(len(right_from)), 0
    seen = np.empty(len(image) + 1, np.int64)
    for one in range(len(first)):
        objects = 0
        for row in range(first_object[one], last_object[one]):
            objects += times[object_image[row]]
        if not objects:
            continue
        classes += 1
        seen[first[one]] = 0
        for row in range(first[one], last[one]):
            seen[row + 1] = seen[row] + times[image[row]]
        for t in range(len(total)):
            found = 0
            for i in range(right_from[t, one], right_to[t, one]):
                found += seen[right[i] + 1] - seen[right[i]]
            skipped, other = 0, neither_to[t, one] - 1
            for i in range(neither_from[t, one], neither_to[t, one]):
                skipped += seen[neither[i] + 1] - seen[neither[i]]
            area, best, place = 0.0, 0.0, len(recalls) - 1
            for i in range(right_to[t, one] - 1, right_from[t, one] - 1, -1):  # from the highest recall
                row = right[i]
                count = seen[row + 1] - seen[row]
                if not count:
                    continue
                while other >= neither_from[t, one] and neither[other] > row:
                    skipped -= seen[neither[other] + 1] - seen[neither[other]]
                    other -= 1
                best = max(best, found / (seen[row + 1] - skipped))
                while place > 0 and recalls[place] > found / objects:
                    place -= 1
                found -= count
                while place > 0 and recalls[place] > found / objects:
                    area += best
                    place -= 1
            total[t] += (area + best) / len(recalls)  # at recall 0 the best of all
    return total / max(1, classes)
