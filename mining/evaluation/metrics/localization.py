"""GT-known, Top-1 and Top-5 localization, and Top-1 and Top-5 classification, for images with one label or several.

The definition of ILSVRC's task of classification with localization (Russakovsky et al., IJCV 2015, section 4.2). The
true classes of image i are the C_i classes of which the truth has a countable box in it. With G(c) those boxes of
class c, b(c) the best-scored predicted box of class c, and rank(c) the place of c among the image's ranked classes:

    right(c)                 = max over g in G(c) of IoU(b(c), g) >= t; never where there is no b(c)
    GT-known accuracy        = mean over i of |{true classes c of i with right(c)}| / C_i
    Top-K loc. accuracy      = mean over i of |{true classes c of i with right(c) and rank(c) <= K}| / C_i
    Top-K class. accuracy    = mean over i of |{true classes c of i with rank(c) <= K}| / C_i
    error                    = 1 - accuracy

Each image counts once, its true classes share it evenly. With one label an image these are the usual figures; with C_i
labels Top-1 is 1 / C_i at most. GT-known differs from CorLoc in that CorLoc counts each (image, class) once.

The challenge's text has "more than 50 %", its evaluation code takes exactly 50 % as right: both can be had, the code's
is the default. That code adds 1 to the sides of boxes that end with their last pixel, which is the same as half-open
boxes here.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from mining.arrays import Bools, Floats, Ints
from mining.errors import ScoringError
from mining.evaluation.boxes import Detections, Overlaps, TruthBoxes, overlaps
from mining.evaluation.metrics.corloc import IOU_THRESHOLD, bootstrap_means, false_positives, pairs_of
from mining.evaluation.metrics.rules import IouRule, is_hit, mean_of

DEFINITION = (
    "ILSVRC's classification with localization: of each image with a countable true box (not difficult, ignore or "
    "crowd), the share of its true classes that are right, and the mean of these shares over images. gt_known_loc: "
    "the best-scored predicted box of the class has an IoU of at least iou_threshold (iou_rule above: of more) with "
    "any countable true box of it; topK_cls: the class is among the K ranked first; topK_loc: both. Boxes are "
    "half-open (no +1). error: 1 - accuracy. false_positives_per_image: predicted boxes on nothing of their class."
)
TOPS = (1, 5)


@dataclass(frozen=True)
class RightShares:
    """Of I images, the share of each one's true classes that is right.

    image: (I,) int, positions, ascending. shares: (I,) float64 in [0, 1] by the figure's name: gt_known_loc,
    top1_loc, top5_loc, top1_cls, top5_cls.
    """

    image: Ints
    shares: dict[str, Floats]


def ranked_classes(scores: ArrayLike, top: int = max(TOPS)) -> Ints:
    """(N, K) the classes of the highest scores, best first; K is `top`, or all classes where they are fewer.

    scores: (N, C) float, C >= 1, higher is surer; of equal scores the lower class goes first.
    Raises ScoringError for another shape and for NaN.
    """
    values = np.asarray(scores, np.float64)
    if values.ndim != 2 or not values.shape[1]:
        raise ScoringError(f"Class scores have shape {values.shape}; expected one row an image, one column a class.")
    if np.isnan(values).any():
        raise ScoringError("Class scores hold NaN; the model's weights are broken or overflowed.")
    return np.argsort(-values, axis=1, kind="stable")[:, :top].astype(np.int64)


def right_shares(
    truth: TruthBoxes,
    predicted: Detections,
    ranked: ArrayLike,
    *,
    iou_threshold: float = IOU_THRESHOLD,
    rule: IouRule = "at_least",
    found: Overlaps | None = None,
) -> RightShares:
    """What each image with a countable true box adds to the figures.

    ranked: (N, K) int, the classes of each image, best first (`ranked_classes`); K >= 5, or all classes there are.
        Places without a class hold -1.
    found: the overlaps of the same boxes, where they are known already.
    Raises ScoringError when `ranked` lacks an image of the truth, ValueError for a threshold or rule that is none.
    """
    pairs = pairs_of(truth, predicted, found)
    is_ranked = _ranked_of_each_image(ranked, pairs.image)[pairs.image] == pairs.category[:, None]
    right = is_hit(pairs.best_iou, iou_threshold, rule)
    in_top = {top: is_ranked[:, :top].any(axis=1) for top in TOPS}
    image, row = np.unique(pairs.image, return_inverse=True)
    of_pair = {
        "gt_known_loc": right,
        **{f"top{top}_loc": right & in_top[top] for top in TOPS},
        **{f"top{top}_cls": in_top[top] for top in TOPS},
    }
    return RightShares(image, {name: _share(hit, row, len(image)) for name, hit in of_pair.items()})


def localization_scores(
    truth: TruthBoxes,
    predicted: Detections,
    ranked: ArrayLike | None,
    *,
    iou_threshold: float = IOU_THRESHOLD,
    rule: IouRule = "at_least",
    found: Overlaps | None = None,
    seed: int = 0,
    resamples: int = 0,
) -> dict[str, Any]:
    """The figures, as scores.json holds them: for each name `accuracy`, `error` in [0, 1], and `ci95` of the error.

    ranked: None where no classes were ranked; then only gt_known_loc is told, the others are None.
    seed, resamples: of the bootstrap over images; without resamples ci95 is None.
    Takes and raises otherwise what `right_shares` does. None where the truth has no countable box.
    """
    found = found or overlaps(truth, predicted)
    places = np.full((int(truth.image.max(initial=-1)) + 1, 1), -1) if ranked is None else ranked
    right = right_shares(truth, predicted, places, iou_threshold=iou_threshold, rule=rule, found=found)
    on_nothing = false_positives(found) & np.isin(predicted.image, right.image)
    images = len(right.image)
    wrong = [1 - shares for shares in right.shares.values()]
    intervals = bootstrap_means(right.image, wrong, seed=seed, resamples=resamples)
    return {
        "definition": DEFINITION,
        "iou_threshold": iou_threshold,
        "iou_rule": rule,
        "images": images,
        **{
            name: None if ranked is None and name != "gt_known_loc" else {**_accuracy_and_error(shares), "ci95": ci95}
            for (name, shares), ci95 in zip(right.shares.items(), intervals, strict=True)
        },
        "false_positives_per_image": float(on_nothing.sum() / images) if images else None,
    }


def _ranked_of_each_image(ranked: ArrayLike, images: Ints) -> Ints:
    classes = np.asarray(ranked, np.int64)
    needed = int(images.max(initial=-1)) + 1
    if classes.ndim != 2 or len(classes) < needed:
        raise ScoringError(
            f"Ranked classes have shape {classes.shape}; expected one row an image, {needed} or more, best class first."
        )
    return classes


def _share(hit: Bools, row: Ints, images: int) -> Floats:
    """(images,) mean of the hits (P,) whose row it is; each row has one at least."""
    return np.bincount(row, weights=hit, minlength=images) / np.bincount(row, minlength=images)


def _accuracy_and_error(shares: Floats | Sequence[float]) -> dict[str, float | None]:
    accuracy = mean_of(shares)
    return {"accuracy": accuracy, "error": None if accuracy is None else 1 - accuracy}
