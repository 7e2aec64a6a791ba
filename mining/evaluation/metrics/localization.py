"""GT-known, Top-1 and Top-5 localization, and Top-1 and Top-5 classification, for one or several labels per image.

The definition of ILSVRC's task of classification with localization (Russakovsky et al., IJCV 2015, section 4.2). The
true classes of image i are the C_i classes of which the ground truth has a countable box in it. With G(c) those boxes
of class c, b(c) the best-scored predicted box of class c, and rank(c) the place of c among the image's ranked classes:

    correct(c)               = max over g in G(c) of IoU(b(c), g) >= t; false where there is no b(c)
    GT-known accuracy        = mean over i of |{true classes c of i with correct(c)}| / C_i
    Top-K loc. accuracy      = mean over i of |{true classes c of i with correct(c) and rank(c) <= K}| / C_i
    Top-K class. accuracy    = mean over i of |{true classes c of i with rank(c) <= K}| / C_i
    2 + 2 + 1 loc. accuracy  = mean over i of |{true classes c of i with correct_2(c) and rank(c) <= 2, or correct(c)
                               and rank(c) = 3}| / C_i
    error                    = 1 - accuracy

correct_2(c) is correct(c) for either of the two best-scored boxes of c. Five guesses are spent on three classes: "two
bounding boxes from the top 1st and 2nd predicted classes, and one from the 3rd class" (SPG*; Zhang et al., ECCV 2018,
section 4.2, after CAM).

Each image counts once; its true classes share it evenly. With one label per image these are the usual figures; with C_i
labels Top-1 is at most 1 / C_i. GT-known differs from CorLoc in that CorLoc counts each (image, class) once.

The challenge's text says "more than 50 %", its evaluation code accepts exactly 50 %: both are available, the code's is
the default. That code adds 1 to the sides of boxes that end with their last pixel, which equals half-open boxes here.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from mining.arrays import Bools, Floats, Ints
from mining.errors import ScoringError
from mining.evaluation.bootstrap import bootstrap_means
from mining.evaluation.boxes import Detections, Overlaps, TruthBoxes, compute_overlaps
from mining.evaluation.metrics.corloc import pair_results
from mining.evaluation.metrics.hits import IOU_THRESHOLD, IouRule, is_hit, mean_or_none
from mining.evaluation.metrics.instance_recall import is_false_positive
from mining.evaluation.scores import Accuracy, Interval, LocalizationScores

DEFINITION = (
    "ILSVRC's classification with localization: of each image with a countable true box (not difficult, ignore or "
    "crowd), the share of its true classes that are correct, and the mean of these shares over images. gt_known_loc: "
    "the best-scored predicted box of the class has an IoU of at least iou_threshold (iou_rule above: of more) with "
    "any countable true box of it; topK_cls: the class is among the K ranked first; topK_loc: both; top5_loc_2_2_1: of "
    "the two best-scored boxes of each of the classes ranked first and second, and the best-scored one of the third, "
    "one is correct (SPG*). Boxes are half-open (no +1). error: 1 - accuracy. false_positives_per_image: boxes that "
    "hit nothing of their class."
)
TOPS = (1, 5)
NOT_ASKED = -2
_GT_KNOWN = "gt_known_loc"


@dataclass(frozen=True)
class CorrectShares:
    """The share of each image's true classes that is correct, for I images.

    Attributes:
        image: (I,) int, positions, ascending.
        shares: (I,) float64 in [0, 1] by figure: gt_known_loc, top1_loc, top5_loc, top5_loc_2_2_1, top1_cls, top5_cls.
    """

    image: Ints
    shares: dict[str, Floats]


def correct_shares(
    truth: TruthBoxes,
    predicted: Detections,
    ranked: ArrayLike,
    *,
    iou_threshold: float = IOU_THRESHOLD,
    rule: IouRule = "at_least",
    overlaps: Overlaps | None = None,
) -> CorrectShares:
    """Compute what each image with a countable true box contributes to the figures.

    Args:
        truth: True boxes.
        predicted: Predicted boxes.
        ranked: (N, K) int, the classes of each image, best first; K >= 5, or all classes there are.
            -1 fills places without a class. NOT_ASKED in the first place: nothing was to rank the image's classes.
        iou_threshold: IoU from which a box is correct, in (0, 1].
        rule: Whether the threshold itself is enough.
        overlaps: `compute_overlaps(truth, predicted)`, where it is known already.

    Returns:
        One share per image and figure; of images whose classes nothing was to rank, only gt_known_loc means something.

    Raises:
        ScoringError: `ranked` lacks an image of the ground truth.
        ValueError: The threshold or the rule is invalid.
    """
    pairs = pair_results(truth, predicted, overlaps)
    is_ranked = _check_ranked(ranked, pairs.image)[pairs.image] == pairs.category[:, None]
    is_correct = is_hit(pairs.best_iou, iou_threshold, rule)
    is_in_top = {top: is_ranked[:, :top].any(axis=1) for top in TOPS}
    of_two = is_hit(pairs.two_best_iou, iou_threshold, rule) & is_ranked[:, :2].any(axis=1)
    image, row = np.unique(pairs.image, return_inverse=True)
    by_figure = {
        "gt_known_loc": is_correct,
        **{f"top{top}_loc": is_correct & is_in_top[top] for top in TOPS},
        "top5_loc_2_2_1": of_two | (is_correct & is_ranked[:, 2:3].any(axis=1)),
        **{f"top{top}_cls": is_in_top[top] for top in TOPS},
    }
    return CorrectShares(image, {name: _mean_by_row(hits, row, len(image)) for name, hits in by_figure.items()})


def localization_scores(
    truth: TruthBoxes,
    predicted: Detections,
    ranked: ArrayLike | None,
    *,
    iou_threshold: float = IOU_THRESHOLD,
    rule: IouRule = "at_least",
    overlaps: Overlaps | None = None,
    seed: int = 0,
    resamples: int = 0,
) -> LocalizationScores:
    """Compute the `localization` part of scores.json.

    Args:
        truth: True boxes.
        predicted: Predicted boxes.
        ranked: As for `correct_shares`; None where no classes were ranked, which leaves gt_known_loc alone.
        iou_threshold: IoU from which a box is correct, in (0, 1].
        rule: Whether the threshold itself is enough.
        overlaps: `compute_overlaps(truth, predicted)`, where it is known already.
        seed: Seed of the bootstrap over images.
        resamples: Number of resamples; 0 for no intervals.

    Returns:
        For each figure `accuracy`, `error` in [0, 1] and `ci95` of the error; None where nothing can be counted. Images
        whose classes nothing was to rank count in gt_known_loc alone.

    Raises:
        ScoringError: `ranked` lacks an image of the ground truth.
        ValueError: The threshold or the rule is invalid.
    """
    overlaps = overlaps or compute_overlaps(truth, predicted)
    no_ranking = np.full((int(truth.image.max(initial=-1)) + 1, 1), -1)
    correct = correct_shares(
        truth,
        predicted,
        no_ranking if ranked is None else ranked,
        iou_threshold=iou_threshold,
        rule=rule,
        overlaps=overlaps,
    )
    false_positives = is_false_positive(overlaps) & np.isin(predicted.image, correct.image)
    images = len(correct.image)
    is_ranked = np.zeros(images, bool) if ranked is None else np.asarray(ranked)[correct.image, 0] != NOT_ASKED
    names = [name for name in correct.shares if name != _GT_KNOWN]
    known = _figures(correct, [_GT_KNOWN], np.ones(images, bool), seed, resamples)
    of_ranked = _figures(correct, names, is_ranked, seed, resamples)
    is_empty = ranked is None or (images > 0 and not is_ranked.any())
    figures: dict[str, Accuracy | None] = dict.fromkeys(names) if is_empty else {**of_ranked}
    return {
        "definition": DEFINITION,
        "iou_threshold": iou_threshold,
        "iou_rule": rule,
        "images": images,
        "images_ranked": int(is_ranked.sum()),
        "gt_known_loc": known[_GT_KNOWN],
        "top1_loc": figures["top1_loc"],
        "top5_loc": figures["top5_loc"],
        "top5_loc_2_2_1": figures["top5_loc_2_2_1"],
        "top1_cls": figures["top1_cls"],
        "top5_cls": figures["top5_cls"],
        "false_positives_per_image": float(false_positives.sum() / images) if images else None,
    }


def _figures(
    correct: CorrectShares, names: Sequence[str], counts: Bools, seed: int, resamples: int
) -> dict[str, Accuracy]:
    """Return these figures over the (I,) images that count."""
    shares = [correct.shares[name][counts] for name in names]
    errors = [1 - one for one in shares]
    intervals = bootstrap_means(correct.image[counts], errors, seed=seed, resamples=resamples)
    return {name: _accuracy(one, ci95) for name, one, ci95 in zip(names, shares, intervals, strict=True)}


def _check_ranked(ranked: ArrayLike, images: Ints) -> Ints:
    classes = np.asarray(ranked, np.int64)
    needed = int(images.max(initial=-1)) + 1
    if classes.ndim != 2 or len(classes) < needed:
        raise ScoringError(
            f"Ranked classes have shape {classes.shape}; expected one row per image, at least {needed} rows, best "
            "class first."
        )
    return classes


def _mean_by_row(hits: Bools, row: Ints, rows: int) -> Floats:
    """(rows,) mean of the hits (P,) that belong to each row; each row has at least one."""
    return np.bincount(row, weights=hits, minlength=rows) / np.bincount(row, minlength=rows)


def _accuracy(shares: Floats | Sequence[float], ci95: Interval | None) -> Accuracy:
    accuracy = mean_or_none(shares)
    return {"accuracy": accuracy, "error": None if accuracy is None else 1 - accuracy, "ci95": ci95}
