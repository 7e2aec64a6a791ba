"""Count at which thresholds the boxes of maps are correct: the base of wsoleval.py and region_accuracy.py."""

from collections.abc import Iterable, Mapping
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mining.arrays import Floats
from mining.errors import ScoringError
from mining.regions.extraction import validate_thresholds

Kind = TypeVar("Kind", bound=str)

IOU_THRESHOLDS = (0.3, 0.5, 0.7)


class AccuracyAtThresholds(Generic[Kind]):
    """Counts, map by map, at which thresholds a box is correct, for each of several kinds of box.

    Attributes:
        thresholds: (T,) float64 ascending in [0, 1).
        pairs: Number of maps so far.
        correct: By kind of box (3, T) int64, maps with a correct box at an IoU of at least 0.3, 0.5 and 0.7.
    """

    def __init__(self, thresholds: ArrayLike, kinds: Iterable[Kind]) -> None:
        """Start counting.

        Args:
            thresholds: (T,) ascending in [0, 1).
            kinds: Kinds of box to count.

        Raises:
            ValueError: The thresholds are not ascending in [0, 1).
        """
        self.thresholds = validate_thresholds(thresholds)
        self.pairs = 0
        shape = len(IOU_THRESHOLDS), len(self.thresholds)
        self.correct: dict[Kind, NDArray[np.int64]] = {kind: np.zeros(shape, np.int64) for kind in kinds}

    def count(self, best_iou: Mapping[Kind, Floats]) -> None:
        """Count one map, given for each kind (T,) the best IoU of its boxes with the true ones."""
        for kind, best in best_iou.items():
            self.correct[kind] += best >= np.array(IOU_THRESHOLDS)[:, None]
        self.pairs += 1

    def accuracy(self, kind: Kind) -> Floats:
        """Return (3, T) BoxAcc in [0, 1] for IoU 0.3, 0.5, 0.7 at each threshold.

        Raises:
            ScoringError: No map has been counted.
        """
        if not self.pairs:
            raise ScoringError("No map was added, so there is no accuracy; add at least one.")
        return self.correct[kind] / self.pairs

    def best_accuracy(self, kind: Kind) -> Floats:
        """Return (3,) BoxAcc for IoU 0.3, 0.5, 0.7, each at its own best threshold."""
        return self.accuracy(kind).max(axis=1)

    def best_thresholds(self, kind: Kind) -> Floats:
        """Return (3,) the lowest threshold at which each best accuracy is reached."""
        return self.thresholds[self.accuracy(kind).argmax(axis=1)]

    def _best_at_half(self, kind: Kind) -> float:
        return float(self.best_accuracy(kind)[IOU_THRESHOLDS.index(0.5)])

    def _mean_of_best(self, kind: Kind) -> float:
        return float(self.best_accuracy(kind).mean())


def check_boxes(xyxy: ArrayLike, image_size: tuple[float, float]) -> Floats:
    """Check true boxes and the size of their image.

    Args:
        xyxy: (m, 4) corners in pixels, m >= 1.
        image_size: Width and height in pixels.

    Returns:
        (m, 4) float64 boxes.

    Raises:
        ScoringError: The boxes or the size cannot be used.
    """
    boxes = np.asarray(xyxy, np.float64)
    if boxes.ndim != 2 or boxes.shape[1] != 4 or not len(boxes):
        raise ScoringError(f"True boxes have shape {boxes.shape}; expected (m, 4) with m >= 1.")
    if not (np.isfinite(boxes).all() and (boxes[:, :2] <= boxes[:, 2:]).all()):
        raise ScoringError(f"True boxes are {boxes.tolist()}; expected x0 <= x1 and y0 <= y1.")
    if not all(side > 0 for side in image_size):
        raise ScoringError(f"The image size is {image_size}; expected a width and a height above 0.")
    return boxes
