"""Predicted boxes as arrays, and their overlaps with true boxes."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from mining.arrays import Floats, Ints
from mining.boxes.iou import area, intersection, ratio
from mining.ground_truth.boxes import TruthBoxes as TruthBoxes
from mining.ground_truth.boxes import check_lengths, set_columns, set_fields
from mining.ground_truth.boxes import xyxy_from_xywh as xyxy_from_xywh

_PAIRS_PER_BLOCK = 2_000_000


@dataclass(frozen=True)
class Detections:
    """The predicted boxes of many images, one row per box, n rows.

    Attributes:
        image: (n,) int, position in the same list of images as the ground truth's.
        category: (n,) int, position in the same list of classes.
        xywh: (n, 4) float64 pixels.
        scores: (n,) float64, higher means more confident; of equal scores the first row wins.
    """

    image: Ints
    category: Ints
    xywh: Floats
    scores: Floats

    def __post_init__(self) -> None:
        set_columns(self, image=self.image, category=self.category, xywh=self.xywh)
        set_fields(self, scores=np.asarray(self.scores, np.float64))
        check_lengths(len(self.image), category=self.category, xywh=self.xywh, scores=self.scores)

    @cached_property
    def xyxy(self) -> Floats:
        """(n, 4) corners x0, y0, x1, y1, half-open."""
        return xyxy_from_xywh(self.xywh)

    def where(self, keep: NDArray[np.bool_]) -> "Detections":
        """Return the rows for which `keep` (n,) is true."""
        return Detections(self.image[keep], self.category[keep], self.xywh[keep], self.scores[keep])

    def __len__(self) -> int:
        return len(self.image)


@dataclass(frozen=True)
class Overlaps:
    """Overlaps of predicted and true boxes of the same image and class.

    Attributes:
        prediction_iou: (n,) best IoU of each prediction with a countable true box; 0 where there is none.
        prediction_ignored: (n,) largest share of each prediction's area inside one ignored true box.
        truth_iou: (m,) best IoU of each true box with a prediction.
    """

    prediction_iou: Floats
    prediction_ignored: Floats
    truth_iou: Floats

    def where(self, predictions: NDArray[np.bool_], true_boxes: NDArray[np.bool_]) -> "Overlaps":
        """Return the rows of some (image, class) pairs, given by flags (n,) and (m,)."""
        return Overlaps(
            self.prediction_iou[predictions], self.prediction_ignored[predictions], self.truth_iou[true_boxes]
        )


def compute_overlaps(truth: TruthBoxes, predicted: Detections) -> Overlaps:
    """Compare each prediction with the true boxes of its image and class; linear in the number of such pairs."""
    overlaps = Overlaps(np.zeros(len(predicted)), np.zeros(len(predicted)), np.zeros(len(truth)))
    for rows, true_rows in candidate_pairs(truth, predicted):
        box, true_box = predicted.xyxy[rows], truth.xyxy[true_rows]
        common = intersection(box, true_box)
        iou = ratio(common, area(box) + area(true_box) - common)
        ignored = truth.is_ignored[true_rows]
        np.maximum.at(overlaps.prediction_iou, rows[~ignored], iou[~ignored])
        np.maximum.at(overlaps.prediction_ignored, rows[ignored], ratio(common, area(box))[ignored])
        np.maximum.at(overlaps.truth_iou, true_rows, iou)
    return overlaps


def encode_pairs(image: Ints, category: Ints, classes: int) -> Ints:
    """Return (n,) one number for each (image, class), ascending by image, then by class."""
    return image * classes + category


def count_classes(truth: TruthBoxes, predicted: Detections) -> int:
    """Return one more than the highest class number in use; at least 1."""
    return 1 + max(int(truth.category.max(initial=0)), int(predicted.category.max(initial=0)))


def candidate_pairs(truth: TruthBoxes, predicted: Detections) -> Iterator[tuple[Ints, Ints]]:
    """Yield the rows of predictions and true boxes of the same image and class, in blocks of bounded size.

    Args:
        truth: True boxes.
        predicted: Predicted boxes.

    Yields:
        Rows of predictions and of true boxes, of equal length. Predictions ascend, each lies in one block, and the true
        boxes of each ascend.
    """
    classes = count_classes(truth, predicted)
    code = encode_pairs(truth.image, truth.category, classes)
    order = np.argsort(code, kind="stable")
    predicted_code = encode_pairs(predicted.image, predicted.category, classes)
    first = np.searchsorted(code[order], predicted_code, "left")
    partners = np.searchsorted(code[order], predicted_code, "right") - first
    block = np.cumsum(partners) // _PAIRS_PER_BLOCK
    for rows in np.split(np.arange(len(predicted)), np.flatnonzero(np.diff(block)) + 1):
        repeats = partners[rows]
        within = np.arange(repeats.sum()) - np.repeat(np.cumsum(repeats) - repeats, repeats)
        yield np.repeat(rows, repeats), order[np.repeat(first[rows], repeats) + within]
