"""True and predicted boxes as arrays, and their overlaps."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mining.arrays import Bools, Floats, Ints
from mining.boxes.iou import area, intersection, ratio

_PAIRS_PER_BLOCK = 2_000_000


@dataclass(frozen=True)
class TruthBoxes:
    """The true boxes of many images, one row per box, m rows.

    Attributes:
        image: (m,) int, 0-based position in the list of images.
        category: (m,) int, 0-based position in the list of classes.
        xywh: (m, 4) float64 pixels, as in COCO.
        area: (m,) float64 px^2, area of the object where the file states it (for COCO's size ranges); else w * h.
        is_ignored: (m,) bool, whether the box is neither to be found nor wrong to find (difficult, ignore, crowd); by
            default none is.
        is_crowd: (m,) bool, COCO's iscrowd; every crowd is ignored too.
    """

    image: Ints
    category: Ints
    xywh: Floats
    area: Floats = field(default_factory=lambda: np.empty(0))
    is_ignored: Bools = field(default_factory=lambda: np.empty(0, bool))
    is_crowd: Bools = field(default_factory=lambda: np.empty(0, bool))

    def __post_init__(self) -> None:
        _set_columns(self, image=self.image, category=self.category, xywh=self.xywh)
        n = len(self.image)
        area = np.asarray(self.area, np.float64)
        crowd, ignored = (np.asarray(flags, bool) for flags in (self.is_crowd, self.is_ignored))
        crowd = crowd if crowd.size else np.zeros(n, bool)
        ignored = ignored if ignored.size else np.zeros(n, bool)
        _set(self, area=area if area.size else self.xywh[:, 2] * self.xywh[:, 3])
        _set(self, is_crowd=crowd, is_ignored=ignored | crowd)
        _check_lengths(n, xywh=self.xywh, category=self.category, area=self.area, is_ignored=ignored, is_crowd=crowd)

    @cached_property
    def xyxy(self) -> Floats:
        """(m, 4) corners x0, y0, x1, y1, half-open."""
        return xyxy_from_xywh(self.xywh)

    @property
    def is_countable(self) -> Bools:
        """(m,) whether each box is to be found."""
        return ~self.is_ignored

    def where(self, keep: NDArray[np.bool_]) -> "TruthBoxes":
        """Return the rows for which `keep` (m,) is true."""
        return TruthBoxes(
            image=self.image[keep],
            category=self.category[keep],
            xywh=self.xywh[keep],
            area=self.area[keep],
            is_ignored=self.is_ignored[keep],
            is_crowd=self.is_crowd[keep],
        )

    def __len__(self) -> int:
        return len(self.image)


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
        _set_columns(self, image=self.image, category=self.category, xywh=self.xywh)
        _set(self, scores=np.asarray(self.scores, np.float64))
        _check_lengths(len(self.image), category=self.category, xywh=self.xywh, scores=self.scores)

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


def xyxy_from_xywh(xywh: Floats) -> Floats:
    """Convert (n, 4) boxes x, y, width, height to corners x0, y0, x1, y1 (half-open)."""
    return np.concatenate([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]], axis=1)


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


def _set(record: object, **columns: NDArray[np.generic]) -> None:
    for name, values in columns.items():
        object.__setattr__(record, name, values)


def _set_columns(record: object, *, image: ArrayLike, category: ArrayLike, xywh: ArrayLike) -> None:
    _set(record, image=np.asarray(image, np.int64), category=np.asarray(category, np.int64))
    _set(record, xywh=np.asarray(xywh, np.float64).reshape(-1, 4))


def _check_lengths(rows: int, **columns: NDArray[np.generic]) -> None:
    for name, values in columns.items():
        if len(values) != rows:
            raise ValueError(f"{name} has {len(values)} rows, image has {rows}; every column needs one row per box.")
