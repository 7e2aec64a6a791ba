"""Average precision as the evaluation code of PASCAL VOC computes it (Everingham et al., IJCV 2010, section 4.2).

Predictions of a class go through all images by falling score. Each is compared with the true boxes of its class in its
image, difficult ones included, and belongs to the one it overlaps most, the first of equals:

    IoU below the threshold           wrong
    that box is difficult             neither right nor wrong
    no surer prediction belongs to it right
    otherwise                         wrong, for a box is found once; the next best box is not tried

With R the objects of the class that are not difficult, and precision p and recall r after each prediction that counts:

    11-point  AP = 1/11 sum over t of 0, 0.1, ..., 1 of (max of p where r >= t, 0 where r never reaches t)
    all-point AP = sum over predictions of (r - r before) * (max of p from here on)

VOC 2007 to 2009 gave the first, later years give the second; each mean is over classes with R > 0. The papers say that
the IoU must exceed 0.5, the code takes 0.5 itself as found; the default is the code's. It adds 1 to the sides of boxes
that end with their last pixel, as VOC's XML has them, which is the same as half-open boxes here. The eleven recalls are
multiples of 0.1 in floating point, as in the code's ports to Python, where 3 found of 10 fall short of 0.3, and 6 and 7
of theirs (in MATLAB 3 alone does); on a set of 160 objects a class this was worth 0.1 points.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mining.arrays import Bools, Floats, Ints, jit
from mining.boxes.iou import area, intersection, ratio
from mining.evaluation.boxes import Detections, TruthBoxes, comparisons
from mining.evaluation.metrics.corloc import IOU_THRESHOLD, drawn_counts
from mining.evaluation.metrics.rules import IouRule, is_hit, mean_of

DEFINITION = (
    "PASCAL VOC's average precision by its evaluation code: by falling score, a prediction belongs to the true box of "
    "its class that it overlaps most, is right if their IoU is at least iou_threshold (iou_rule above: more) and no "
    "surer one belongs to that box, neither right nor wrong if the box is difficult, ignore or crowd, and wrong "
    "otherwise. AP_11_point: mean of the best precision at recalls 0, 0.1, ..., 1; AP_all_point: area under the curve "
    "of the best precision at each recall or above. Boxes are half-open (no +1). Means over classes with an object "
    "that is not difficult, those without a prediction included, with 0."
)
ELEVEN_RECALLS = np.arange(11) * 0.1


@dataclass(frozen=True)
class RankedMatches:
    """What becomes of each of n predictions.

    true_box: (n,) int, row of the true box of the same image and class that it overlaps most, -1 where none.
    iou: (n,) their IoU. is_right, is_ignored: (n,) bool; neither of both is wrong.
    """

    true_box: Ints
    iou: Floats
    is_right: Bools
    is_ignored: Bools


@dataclass(frozen=True)
class Curve:
    """Precision and recall of a class after each of n predictions that count, the surest first.

    found: (n,) int, right ones so far. objects: to be found, 1 at least.
    """

    found: Ints
    objects: int

    @property
    def precision(self) -> Floats:
        """(n,) right ones among those so far."""
        return self.found / np.arange(1, len(self.found) + 1)

    @property
    def recall(self) -> Floats:
        """(n,) objects found so far, a share."""
        return self.found / self.objects

    @property
    def best_precision(self) -> Floats:
        """(n,) highest precision here or at a higher recall."""
        return np.maximum.accumulate(self.precision[::-1])[::-1]

    def average_precision_11_point(self) -> float:
        """In [0, 1]; 0 without a prediction."""
        first = np.searchsorted(self.recall, ELEVEN_RECALLS, "left")
        return float(np.append(self.best_precision, 0)[first].mean())

    def average_precision_all_point(self) -> float:
        """In [0, 1]; 0 without a prediction."""
        return float((np.diff(self.recall, prepend=0) * self.best_precision).sum())


def voc_scores(
    truth: TruthBoxes,
    predicted: Detections,
    classes: Sequence[str],
    *,
    iou_threshold: float = IOU_THRESHOLD,
    rule: IouRule = "at_least",
    seed: int = 0,
    resamples: int = 0,
) -> dict[str, Any]:
    """VOC's average precision, as scores.json holds it: means in [0, 1], and `per_class` by class name.

    classes: names; `category` in truth and predictions counts into them.
    seed, resamples: of the bootstrap over images behind AP_all_point_ci95; None without resamples.
    None where the truth has no countable box. Raises ValueError for a threshold or rule that is none.
    """
    found = rank_matches(truth, predicted, iou_threshold=iou_threshold, rule=rule)
    curves = curves_of(truth, predicted, found)
    per_class = {classes[category]: _class_row(curve) for category, curve in curves.items()}
    return {
        "definition": DEFINITION,
        "iou_threshold": iou_threshold,
        "iou_rule": rule,
        "AP_11_point": mean_of([row["AP_11_point"] for row in per_class.values()]),
        "AP_all_point": mean_of([row["AP_all_point"] for row in per_class.values()]),
        "AP_all_point_ci95": _bootstrap_ci95(truth, predicted, found, seed=seed, resamples=resamples),
        "per_class": per_class,
    }


def rank_matches(
    truth: TruthBoxes, predicted: Detections, *, iou_threshold: float = IOU_THRESHOLD, rule: IouRule = "at_least"
) -> RankedMatches:
    """Which predictions are right; of equal scores the first row goes first.

    Ignored true boxes of every kind are what VOC calls difficult.
    """
    true_box, iou = _most_overlapped(truth, predicted)
    belongs = is_hit(iou, iou_threshold, rule)
    is_ignored = belongs & np.append(truth.is_ignored, False)[true_box]  # -1 has the last
    counts = np.flatnonzero(belongs & ~is_ignored)
    surest_first = counts[np.argsort(-predicted.scores[counts], kind="stable")]
    first_of_its_box = np.unique(true_box[surest_first], return_index=True)[1]
    is_right = np.zeros(len(predicted), bool)
    is_right[surest_first[first_of_its_box]] = True
    return RankedMatches(true_box, iou, is_right, is_ignored)


def curves_of(truth: TruthBoxes, predicted: Detections, found: RankedMatches) -> dict[int, Curve]:
    """The curve of each class with an object to find, by class number, ascending."""
    counts = np.flatnonzero(~found.is_ignored)
    order = counts[np.lexsort((-predicted.scores[counts], predicted.category[counts]))]
    category = predicted.category[order]
    curves = {}
    for one, objects in zip(*np.unique(truth.category[truth.is_countable], return_counts=True), strict=True):
        rows = order[np.searchsorted(category, one, "left") : np.searchsorted(category, one, "right")]
        curves[int(one)] = Curve(np.cumsum(found.is_right[rows], dtype=np.int64), int(objects))
    return curves


def _bootstrap_ci95(
    truth: TruthBoxes, predicted: Detections, found: RankedMatches, *, seed: int, resamples: int
) -> list[float] | None:
    """95 % percentile interval of AP_all_point, images drawn with replacement; those of a class none drawn is left out.

    What an image's predictions are depends on it alone, so that only their counts change.
    """
    objects = truth.where(truth.is_countable)
    if not len(objects) or resamples < 1:
        return None
    images, _ = np.unique(np.concatenate([truth.image, predicted.image]), return_inverse=True)
    counts = np.flatnonzero(~found.is_ignored)
    order = counts[np.lexsort((-predicted.scores[counts], predicted.category[counts]))]
    category, image = predicted.category[order], np.searchsorted(images, predicted.image[order])
    of_class = np.argsort(objects.category, kind="stable")
    object_class, object_image = objects.category[of_class], np.searchsorted(images, objects.image[of_class])
    classes = np.unique(object_class)
    borders = [np.searchsorted(of, classes, side) for of in (category, object_class) for side in ("left", "right")]
    rng = np.random.default_rng(seed)
    drawn = [
        _mean_average_precision(times, found.is_right[order], image, object_image, *borders)
        for block in drawn_counts(rng, resamples, len(images), len(images))
        for times in block
    ]
    return [float(value) for value in np.percentile(drawn, [2.5, 97.5])]


@jit
def _mean_average_precision(
    times: Any, is_right: Any, image: Any, object_image: Any, first: Any, last: Any, first_object: Any, last_object: Any
) -> Any:
    """Mean over classes of the area under the curve, image i being there times[i] times; 0 where none has an object."""
    total, classes = 0.0, 0
    for one in range(len(first)):
        objects = 0
        for row in range(first_object[one], last_object[one]):
            objects += times[object_image[row]]
        if not objects:
            continue
        right, seen = 0, 0
        for row in range(first[one], last[one]):
            right += times[image[row]] * is_right[row]
            seen += times[image[row]]
        area, best = 0.0, 0.0
        for row in range(last[one] - 1, first[one] - 1, -1):  # from the highest recall, for the best from here on
            count = times[image[row]]
            if count:
                best = max(best, right / seen)
                if is_right[row]:
                    area += best * count / objects
                    right -= count
                seen -= count
        total, classes = total + area, classes + 1
    return total / max(1, classes)


def _class_row(curve: Curve) -> dict[str, Any]:
    return {
        "AP_11_point": curve.average_precision_11_point(),
        "AP_all_point": curve.average_precision_all_point(),
        "objects": curve.objects,
    }


def _most_overlapped(truth: TruthBoxes, predicted: Detections) -> tuple[Ints, Floats]:
    """(n,) row of the true box each prediction overlaps most, the first of equals, -1 where none; and their IoU."""
    best, best_iou = np.full(len(predicted), -1, np.int64), np.zeros(len(predicted))
    for rows, true_rows in comparisons(truth, predicted):
        box, true_box = predicted.xyxy[rows], truth.xyxy[true_rows]
        common = intersection(box, true_box)
        iou = ratio(common, area(box) + area(true_box) - common)
        np.maximum.at(best_iou, rows, iou)
        is_best = (iou > 0) & (iou == best_iou[rows])
        # written backwards: where a row comes twice the last one stays, which is then the first
        best[rows[is_best][::-1]] = true_rows[is_best][::-1]
    return best, best_iou
