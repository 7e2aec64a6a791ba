"""mLDFR's figures as its released code gives them (wangbo2016/wsol-mLDFR-2020), where it differs from the paper and us.

From the map of a class, summed over scales at the size of the image (mining.localizers.pyramid.fuse_scales), to a box:

1. The map is set to 0 where it is below its mean. Where the mean is negative, what is cut ends above what is kept.
2. It is brought to 0-1 (eq. 9), values below the threshold become 0, and the mask is what reaches the mean of the
   result: a second threshold.
3. Regions are 4-connected; unless several are asked for, one box holds the whole mask. Boxes end with their last pixel.
4. The score of a box is the mean of the map before it was brought to 0-1: of the region where several are asked for,
   else of the whole map.

and with IoU+ counting sides as x1 - x0 + 1, of corners as the data set's files have them, whatever they mean by them:

    CorLoc              = mean over classes c of |{images of c where any box of c has IoU+ >= t}| / |{images of c}|
    GT-known loc. error = 1 - CorLoc
    Top-K class. error  = share of images whose label is not among the K best classes
    Top-K loc. error    = share of images where no class among the K best is the label with a box of IoU+ >= t

CorLoc is for one label an image (CUB, ILSVRC) and for several (VOC) alike. The other figures are for one label.

So that figures can be compared, true boxes have CUB's corners x, y, x + width, y + height, which end behind a pixel,
and XML's xmin, ymin, xmax, ymax, which are counted from 1: in terms of the truth that boxmine reads, x and y of XML
plus 1, width and height less 1. Predicted boxes are those of `boxes_of_map`, counted from 0.
"""

from typing import Any

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from mining.arrays import Bools, FloatMap, Floats, Ints
from mining.errors import ScoringError
from mining.evaluation.boxes import Detections, TruthBoxes
from mining.evaluation.metrics.corloc import pair_results
from mining.evaluation.metrics.hits import IOU_THRESHOLD, is_hit
from mining.evaluation.metrics.localization import localization_scores
from tests.oracles.protocols.class_ranking import rank_classes
from tests.oracles.protocols.maps import components, finite_map
from tests.oracles.protocols.plus_one import extend_by_one_pixel

DEFINITION = (
    "mLDFR's released code: sides of boxes count with 1 added, IoU at least iou_threshold. corloc: mean over classes "
    "of the share of images labelled so in which any box of the class is on a true box of it; gt_known_loc: the same, "
    "as accuracy and error. topK_cls: share of images whose label is among the K best classes; topK_loc: those of them "
    "where the box of the label is on a true box. error: 1 - accuracy."
)
THRESHOLD = 0.2


# --- boxes -----------------------------------------------------------------------------------------------------------


def cut_at_its_mean(fused: ArrayLike) -> FloatMap:
    """Set a map to 0 where it is below its mean; boxes are extracted from the result.

    Args:
        fused: (H, W) float map, any range: the raw maps of a class summed over scales.

    Returns:
        (H, W) float32.

    Raises:
        MapError: It is no map, or holds NaN or infinity.
    """
    level = _float32(fused)
    return np.where(level < level.mean(), np.float32(0), level)


def mask_of(activation: ArrayLike, threshold: float = THRESHOLD) -> Bools:
    """Return the (H, W) mask that boxes are drawn around; empty for a constant map, where the released code raises.

    Args:
        activation: (H, W) float map, any range.
        threshold: Share of the map's range.

    Raises:
        MapError: As for `cut_at_its_mean`.
    """
    level = _float32(activation)
    lowest, highest = level.min(), level.max()
    if lowest == highest:
        return np.zeros(level.shape, bool)
    share = (level - lowest) / (highest - lowest)
    kept = np.where(share < threshold, np.float32(0), share)
    return np.asarray(kept >= kept.mean(), bool)


def boxes_of_map(activation: ArrayLike, threshold: float = THRESHOLD, *, several: bool = False) -> Floats:
    """Extract boxes from a map.

    Args:
        activation: (H, W) float map, any range.
        threshold: Share of the map's range.
        several: One box per region, by its first pixel row by row; else at most one box, around the whole mask.

    Returns:
        (n, 5) x0, y0, x1, y1, score: boxes in pixels of the map that end with their last pixel, and their mean
        activation; n is 0 for a constant map.
    """
    level, mask = _float32(activation), mask_of(activation, threshold)
    if not mask.any():
        return np.empty((0, 5))
    if not several:
        x, y, width, height = cv2.boundingRect(mask.astype(np.uint8))
        return np.array([[x, y, x + width - 1, y + height - 1, level.mean()]], np.float64)
    found = components(mask)
    brightness = np.bincount(found.label.ravel(), weights=level.ravel())[1:] / found.pixels
    return np.column_stack([found.xyxy - np.array([0, 0, 1, 1]), brightness])


# --- figures ---------------------------------------------------------------------------------------------------------


def top_classes(scores: ArrayLike) -> Ints:
    """Return the (N, 5) classes of the highest scores (N, C), best first; of equal scores the higher class first."""
    values = np.asarray(scores, np.float64)
    return values.shape[-1] - 1 - rank_classes(values[..., ::-1])


def labelled_once(labels: ArrayLike, classes: int) -> Bools:
    """Return (N, classes) label flags of images with one label each, from their class numbers (N,)."""
    return np.asarray(labels)[:, None] == np.arange(classes)


def macro_corloc(
    truth: TruthBoxes, predicted: Detections, labelled: ArrayLike, *, iou_threshold: float = IOU_THRESHOLD
) -> float | None:
    """CorLoc, the mean over classes, in [0, 1]; None, where the released code has NaN, when a class labels no image.

    truth, predicted: corners as the protocol has them; it adds 1 to their sides.
    labelled: (N, C) bool or 0 and 1, whether the image is labelled so: one True a row (`labelled_once`) or several. A
        label without a true box is a miss.
    Raises ScoringError when `labelled` lacks an image or class of the truth.
    """
    is_label = np.asarray(labelled, bool)
    found = pair_results(extend_by_one_pixel(truth), extend_by_one_pixel(predicted))
    _refuse_fewer(is_label, "Labels", found.image, found.category)
    hit = is_hit(found.any_iou, iou_threshold, "at_least") & is_label[found.image, found.category]
    hits = np.bincount(found.category[hit], minlength=is_label.shape[1])
    images = is_label.sum(axis=0)
    return float((hits / images).mean()) if images.size and images.all() else None


def mldfr_scores(
    truth: TruthBoxes, predicted: Detections, scores: ArrayLike, *, iou_threshold: float = IOU_THRESHOLD
) -> dict[str, Any]:
    """All figures for images with one label, as scores.json holds them; shares in [0, 1].

    truth: its class is the image's label. predicted: of those images, a box for the label and one for each of the top
    five classes. Corners of both as the protocol has them. scores: (N, C) float of the classifier.
    None where there is no countable true box, and for CorLoc where `macro_corloc` says so.
    Raises ScoringError when an image has true boxes of two classes, or `scores` lacks an image or class of the truth.
    """
    is_label = _labels_by_class(truth, scores)
    boxes, found = extend_by_one_pixel(truth), extend_by_one_pixel(predicted)
    figures = localization_scores(boxes, found, top_classes(scores), iou_threshold=iou_threshold)
    corloc = macro_corloc(truth, predicted, is_label, iou_threshold=iou_threshold)
    known = {"accuracy": corloc, "error": None if corloc is None else 1 - corloc}
    return {**figures, "definition": DEFINITION, "corloc": corloc, "gt_known_loc": known}


def _labels_by_class(truth: TruthBoxes, scores: ArrayLike) -> Bools:
    """(N, C) the class of each image's true boxes."""
    image, category = truth.image[truth.is_countable], truth.category[truth.is_countable]
    is_label = np.zeros(np.shape(scores), bool)
    _refuse_fewer(is_label, "Class scores", image, category)
    is_label[image, category] = True
    several = np.flatnonzero(is_label.sum(axis=1) > 1)
    if len(several):
        raise ScoringError(f"Image {several[0]} has true boxes of several classes; mLDFR's figures are for one label.")
    return is_label


def _refuse_fewer(values: NDArray[np.generic], what: str, image: Ints, category: Ints) -> None:
    needed = int(image.max(initial=-1)) + 1, int(category.max(initial=-1)) + 1
    if values.ndim != 2 or values.shape[0] < needed[0] or values.shape[1] < needed[1]:
        raise ScoringError(
            f"{what} have shape {values.shape}; expected (images, classes), the truth has {needed[0]} and {needed[1]}."
        )


def _float32(activation: ArrayLike) -> FloatMap:
    return finite_map(activation).astype(np.float32)
