"""How far COCO's AP would move with other images of the same kind: a bootstrap over images.

What an image's predictions are right about depends on that image alone. Drawing images anew therefore changes only how
often each prediction and each object counts; an image drawn twice stands there twice, as pycocotools would see it.
"""

from typing import Any

import numpy as np

from mining.compiled import compiled
from mining.scoring.boxes import Floats, TruthBoxes
from mining.scoring.coco import AREAS, RECALLS, Matches
from mining.scoring.corloc import drawn_counts

_ALL = list(AREAS).index("all")
_MOST_WORK = 200_000_000  # predictions times resamples: some seconds
_FEWEST_RESAMPLES = 100
_RIGHT, _WRONG = 1, 2


def coco_intervals(truth: TruthBoxes, matches: Matches, *, seed: int, resamples: int) -> dict[str, list[float] | None]:
    """95 % percentile intervals of AP and AP50, `AP_ci95` and `AP50_ci95`; a class none of which is drawn is left out.

    Fewer resamples, but 100 at least, where there are more than 200,000 predictions. None without object or resamples.
    """
    if not truth.is_countable.any() or resamples < 1:
        return {"AP_ci95": None, "AP50_ci95": None}
    state = weighted_state(truth, matches)
    images = 1 + max(int(places.max(initial=0)) for places in state[1:3])
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

    state: (T, n) whether each prediction, by class and falling score, is right, wrong, or neither; image: (n,);
    object_image: (m,) of the objects to be found, by class; first, last, first_object, last_object: (C,) where each
    class with an object lies among both.
    """
    objects = truth.where(truth.is_countable)
    order = np.lexsort((-matches.scores, matches.category))  # stable, as the numbers themselves
    matched, neither = matches.matched[_ALL][:, order], matches.ignored[_ALL][:, order]
    state = np.where(neither, 0, np.where(matched, _RIGHT, _WRONG)).astype(np.uint8)
    of_class = np.argsort(objects.category, kind="stable")
    listed = matches.category[order], objects.category[of_class]
    classes = np.unique(listed[1])
    borders = [np.searchsorted(of, classes, side) for of in listed for side in ("left", "right")]
    return state, matches.image[order], objects.image[of_class], *borders


def _interval(values: Floats) -> list[float]:
    return [float(value) for value in np.percentile(values, [2.5, 97.5])]


@compiled
def weighted_precision(
    times: Any, state: Any, image: Any, object_image: Any, first: Any, last: Any, first_object: Any, last_object: Any,
    recalls: Any,
) -> Any:  # fmt: skip
    """(T,) the mean over classes of the mean best precision at each recall, image i being there times[i] times."""
    total, classes = np.zeros(len(state)), 0
    for one in range(len(first)):
        objects = 0
        for row in range(first_object[one], last_object[one]):
            objects += times[object_image[row]]
        if not objects:
            continue
        classes += 1
        for t in range(len(state)):
            right, seen = 0, 0
            for row in range(first[one], last[one]):
                if state[t, row]:
                    count = times[image[row]]
                    seen += count
                    right += count * (state[t, row] == _RIGHT)
            area, best, place = 0.0, 0.0, len(recalls) - 1
            for row in range(last[one] - 1, first[one] - 1, -1):  # from the highest recall, for the best from here on
                count = times[image[row]]
                if not count or not state[t, row]:
                    continue
                best = max(best, right / seen)
                seen -= count
                if state[t, row] == _RIGHT:
                    while place > 0 and recalls[place] > right / objects:
                        place -= 1
                    right -= count
                    while place > 0 and recalls[place] > right / objects:
                        area += best
                        place -= 1
            total[t] += (area + best) / len(recalls)  # at recall 0 the best of all
    return total / max(1, classes)
