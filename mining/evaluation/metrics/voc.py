"""Average precision as the evaluation code of PASCAL VOC computes it (Everingham et al., IJCV 2010, section 4.2).

The predictions of a class are visited over all images by falling score. Each is assigned to the true box of its class
in its image with the highest IoU, difficult ones included, the first of equals:

    IoU below the threshold                              wrong
    the assigned box is difficult                        ignored
    no higher-scored prediction is assigned to that box  correct
    otherwise                                            wrong: a box is found once, the next best box is not tried

With R the objects of the class that are not difficult, and precision p and recall r after each prediction that is not
ignored:

    11-point  AP = 1/11 sum over t of 0, 0.1, ..., 1 of (max of p where r >= t, 0 where r never reaches t)
    all-point AP = sum over predictions of (r - r before) * (max of p from here on)

VOC 2007 to 2009 used the first, later years the second; each mean is over classes with R > 0. The papers require that
the IoU exceeds 0.5, the code accepts 0.5 itself; the default is the code's. It adds 1 to the sides of boxes that end
with their last pixel, as VOC's XML has them, which equals half-open boxes here. The eleven recalls are multiples of 0.1
in floating point, as in the code's ports to Python, where 3 of 10 found miss 0.3, and 6 and 7 miss theirs (in MATLAB
only 3 does); on a set of 160 objects per class this made a difference of 0.1 points.
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mining.arrays import Bools, Floats, Ints, jit
from mining.boxes.iou import area, intersection, ratio
from mining.evaluation.bootstrap import bias_corrected_interval, resample_image_counts
from mining.evaluation.boxes import Detections, TruthBoxes, candidate_pairs
from mining.evaluation.metrics.hits import IOU_THRESHOLD, IouRule, is_hit, mean_or_none
from mining.evaluation.scores import AveragePrecision, ClassAveragePrecision, Interval, VocScores

DEFINITION = (
    "PASCAL VOC's average precision by its evaluation code: by falling score, a prediction is assigned to the true box "
    "of its class with the highest IoU; it is correct if that IoU is at least iou_threshold (iou_rule above: more) and "
    "no higher-scored one is assigned to that box, ignored if the box is difficult, ignore or crowd, and wrong "
    "otherwise. AP_11_point: mean of the best precision at recalls 0, 0.1, ..., 1; AP_all_point: area under the curve "
    "of the best precision at each recall or above. Boxes are half-open (no +1). Means over classes with an object "
    "that is not difficult, those without a prediction included, with 0. at_iou: the means at lower IoU thresholds."
)
ELEVEN_RECALLS = np.arange(11) * 0.1
LOWER_IOU_THRESHOLDS = (0.3, 0.1)


@dataclass(frozen=True)
class RankedMatches:
    """The outcome of each of n predictions; one that is neither correct nor ignored is wrong.

    Attributes:
        true_box: (n,) int, row of the true box of the same image and class with the highest IoU, -1 where none.
        iou: (n,) their IoU.
        is_correct: (n,) bool.
        is_ignored: (n,) bool.
    """

    true_box: Ints
    iou: Floats
    is_correct: Bools
    is_ignored: Bools


@dataclass(frozen=True)
class PrecisionRecallCurve:
    """Precision and recall of a class after each of n predictions that are not ignored, by falling score.

    Attributes:
        true_positives: (n,) int, correct predictions so far.
        objects: Number of objects to be found, at least 1.
    """

    true_positives: Ints
    objects: int

    @property
    def precision(self) -> Floats:
        """(n,) share of the predictions so far that are correct."""
        return self.true_positives / np.arange(1, len(self.true_positives) + 1)

    @property
    def recall(self) -> Floats:
        """(n,) share of the objects found so far."""
        return self.true_positives / self.objects

    @property
    def best_precision(self) -> Floats:
        """(n,) highest precision here or at a higher recall."""
        return np.maximum.accumulate(self.precision[::-1])[::-1]

    def average_precision_11_point(self) -> float:
        """Return the 11-point average precision in [0, 1]; 0 without predictions."""
        first = np.searchsorted(self.recall, ELEVEN_RECALLS, "left")
        return float(np.append(self.best_precision, 0)[first].mean())

    def average_precision_all_point(self) -> float:
        """Return the area under the curve in [0, 1]; 0 without predictions."""
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
) -> VocScores:
    """Compute VOC's average precision, the `voc` part of scores.json.

    Args:
        truth: True boxes.
        predicted: Predicted boxes.
        classes: Class names; `category` of both box tables counts into them.
        iou_threshold: IoU from which a prediction is correct, in (0, 1].
        rule: Whether the threshold itself is enough.
        seed: Seed of the bootstrap over images behind AP_all_point_ci95.
        resamples: Number of resamples; 0 for no interval.

    Returns:
        Means in [0, 1] and `per_class` by class name; None where the ground truth has no countable box.

    Raises:
        ValueError: The threshold or the rule is invalid.
    """
    matches = rank_matches(truth, predicted, iou_threshold=iou_threshold, rule=rule)
    curves = precision_recall_curves(truth, predicted, matches)
    per_class = {classes[category]: _class_row(curve) for category, curve in curves.items()}
    means = _mean_average_precision(curves.values())
    return {
        "definition": DEFINITION,
        "iou_threshold": iou_threshold,
        "iou_rule": rule,
        **means,
        "AP_all_point_ci95": _bootstrap(
            means["AP_all_point"], truth, predicted, matches, seed=seed, resamples=resamples
        ),
        "at_iou": {
            f"{lower:g}": average_precision(truth, predicted, iou_threshold=lower, rule=rule)
            for lower in LOWER_IOU_THRESHOLDS
        },
        "per_class": per_class,
    }


def average_precision(
    truth: TruthBoxes, predicted: Detections, *, iou_threshold: float = IOU_THRESHOLD, rule: IouRule = "at_least"
) -> AveragePrecision:
    """Compute VOC's average precision, mean over classes.

    Args:
        truth: True boxes.
        predicted: Predicted boxes.
        iou_threshold: IoU from which a prediction is correct, in (0, 1].
        rule: Whether the threshold itself is enough.

    Returns:
        Means in [0, 1]; None where the ground truth has no countable box.

    Raises:
        ValueError: The threshold or the rule is invalid.
    """
    matches = rank_matches(truth, predicted, iou_threshold=iou_threshold, rule=rule)
    return _mean_average_precision(precision_recall_curves(truth, predicted, matches).values())


def _mean_average_precision(curves: Collection[PrecisionRecallCurve]) -> AveragePrecision:
    return {
        "AP_11_point": mean_or_none([curve.average_precision_11_point() for curve in curves]),
        "AP_all_point": mean_or_none([curve.average_precision_all_point() for curve in curves]),
    }


def rank_matches(
    truth: TruthBoxes, predicted: Detections, *, iou_threshold: float = IOU_THRESHOLD, rule: IouRule = "at_least"
) -> RankedMatches:
    """Decide which predictions are correct; of equal scores the first row is visited first.

    Ignored true boxes of every kind are treated as VOC treats difficult ones.

    Args:
        truth: True boxes.
        predicted: Predicted boxes.
        iou_threshold: IoU from which a prediction is correct, in (0, 1].
        rule: Whether the threshold itself is enough.

    Returns:
        The outcome of each prediction.

    Raises:
        ValueError: The threshold or the rule is invalid.
    """
    true_box, iou = _most_overlapped(truth, predicted)
    is_assigned = is_hit(iou, iou_threshold, rule)
    is_ignored = is_assigned & np.append(truth.is_ignored, False)[true_box]  # -1 reads the appended False
    countable = np.flatnonzero(is_assigned & ~is_ignored)
    by_score = countable[np.argsort(-predicted.scores[countable], kind="stable")]
    first_of_its_box = np.unique(true_box[by_score], return_index=True)[1]
    is_correct = np.zeros(len(predicted), bool)
    is_correct[by_score[first_of_its_box]] = True
    return RankedMatches(true_box, iou, is_correct, is_ignored)


def precision_recall_curves(
    truth: TruthBoxes, predicted: Detections, matches: RankedMatches
) -> dict[int, PrecisionRecallCurve]:
    """Return the curve of each class that has an object to be found, by class number, ascending."""
    countable = np.flatnonzero(~matches.is_ignored)
    order = countable[np.lexsort((-predicted.scores[countable], predicted.category[countable]))]
    category = predicted.category[order]
    curves = {}
    for number, objects in zip(*np.unique(truth.category[truth.is_countable], return_counts=True), strict=True):
        rows = order[np.searchsorted(category, number, "left") : np.searchsorted(category, number, "right")]
        true_positives = np.cumsum(matches.is_correct[rows], dtype=np.int64)
        curves[int(number)] = PrecisionRecallCurve(true_positives, int(objects))
    return curves


def _bootstrap(
    value: float | None, truth: TruthBoxes, predicted: Detections, matches: RankedMatches, *, seed: int, resamples: int
) -> Interval | None:
    """Return the interval of AP_all_point, given its value; a class that a resample lacks is left out of its mean."""
    if value is None or resamples < 1:
        return None
    images = len(np.unique(np.concatenate([truth.image, predicted.image])))
    counts = resample_image_counts(images, seed=seed, resamples=resamples)
    values = resampled_average_precision((times for block in counts for times in block), truth, predicted, matches)
    return bias_corrected_interval(np.array(values), value, within=(0, 1))


def resampled_average_precision(
    counts: Iterator[Ints], truth: TruthBoxes, predicted: Detections, matches: RankedMatches
) -> list[float]:
    """Compute the mean AP_all_point of resamples of the images.

    The predictions of an image depend on that image alone, so a resample changes only how often each of them counts.

    Args:
        counts: For each resample (N,) int, how often each image was drawn; the N images are those with a true or a
            predicted box, ascending.
        truth: True boxes, at least one of them countable.
        predicted: Predicted boxes.
        matches: `rank_matches(truth, predicted)`.

    Returns:
        One mean per resample, over the classes that it has an object of.
    """
    objects = truth.where(truth.is_countable)
    images = np.unique(np.concatenate([truth.image, predicted.image]))
    countable = np.flatnonzero(~matches.is_ignored)
    order = countable[np.lexsort((-predicted.scores[countable], predicted.category[countable]))]
    category, image = predicted.category[order], np.searchsorted(images, predicted.image[order])
    by_class = np.argsort(objects.category, kind="stable")
    object_class, object_image = objects.category[by_class], np.searchsorted(images, objects.image[by_class])
    classes = np.unique(object_class)
    borders = [np.searchsorted(of, classes, side) for of in (category, object_class) for side in ("left", "right")]
    is_correct = matches.is_correct[order]
    return [_resampled_mean(times, is_correct, image, object_image, *borders) for times in counts]


@jit
def _resampled_mean(
    times: Any,
    is_correct: Any,
    image: Any,
    object_image: Any,
    first: Any,
    last: Any,
    first_object: Any,
    last_object: Any,
) -> Any:
    """Mean over classes of the area under the curve where image i counts times[i] times; 0 without objects."""
    total, classes = 0.0, 0
    for number in range(len(first)):
        objects = 0
        for row in range(first_object[number], last_object[number]):
            objects += times[object_image[row]]
        if not objects:
            continue
        correct, visited = 0, 0
        for row in range(first[number], last[number]):
            correct += times[image[row]] * is_correct[row]
            visited += times[image[row]]
        area, best = 0.0, 0.0
        # from the highest recall downwards, so that `best` is the best precision from here on
        for row in range(last[number] - 1, first[number] - 1, -1):
            count = times[image[row]]
            if count:
                best = max(best, correct / visited)
                if is_correct[row]:
                    area += best * count / objects
                    correct -= count
                visited -= count
        total, classes = total + area, classes + 1
    return total / max(1, classes)


def _class_row(curve: PrecisionRecallCurve) -> ClassAveragePrecision:
    return {
        "AP_11_point": curve.average_precision_11_point(),
        "AP_all_point": curve.average_precision_all_point(),
        "objects": curve.objects,
    }


def _most_overlapped(truth: TruthBoxes, predicted: Detections) -> tuple[Ints, Floats]:
    """(n,) row of the true box with the highest IoU, the first of equals, -1 where none; and (n,) that IoU."""
    best, best_iou = np.full(len(predicted), -1, np.int64), np.zeros(len(predicted))
    for rows, true_rows in candidate_pairs(truth, predicted):
        box, true_box = predicted.xyxy[rows], truth.xyxy[true_rows]
        common = intersection(box, true_box)
        iou = ratio(common, area(box) + area(true_box) - common)
        np.maximum.at(best_iou, rows, iou)
        is_best = (iou > 0) & (iou == best_iou[rows])
        # assigned in reverse: where a row occurs twice the last assignment wins, which is then the first true box
        best[rows[is_best][::-1]] = true_rows[is_best][::-1]
    return best, best_iou
