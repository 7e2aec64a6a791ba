"""What is known of boxes: verdicts, IoU and weights, checked."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from mining.arrays import Bools, Floats


@dataclass(frozen=True)
class Labels:
    """What is known of n boxes: outcomes with NaN for not known, and weights with a mean of 1 over the judged."""

    is_correct: Floats
    iou: Floats
    weights: Floats

    @property
    def is_judged(self) -> Bools:
        """(n,) whether each box was judged."""
        return np.isfinite(self.is_correct)

    @classmethod
    def check(
        cls, n: int, is_correct: ArrayLike, iou: ArrayLike | None, images: Sequence[object], weights: ArrayLike | None
    ) -> "Labels":
        """Check the arguments of `calibrate` for a table of n rows; ValueError for what cannot be used."""
        correct = np.asarray(is_correct, np.float64)
        overlap = np.full(n, np.nan) if iou is None else np.asarray(iou, np.float64)
        weight = np.ones(n) if weights is None else np.asarray(weights, np.float64)
        lengths = (len(correct), len(overlap), len(weight), len(images))
        if set(lengths) != {n}:
            raise ValueError(f"is_correct, iou, weights and images have {lengths} rows; the table has {n}.")
        judged = np.isfinite(correct)
        if not np.isin(correct[judged], (0, 1)).all():
            raise ValueError("is_correct must be 0, 1, or NaN for boxes that were not judged.")
        if not (overlap[np.isfinite(overlap)] <= 1).all() or not (overlap[np.isfinite(overlap)] >= 0).all():
            raise ValueError("iou must be in [0, 1], or NaN where it is not known.")
        if not (weight[judged] > 0).all() or not np.isfinite(weight[judged]).all():
            raise ValueError("weights of judged boxes must be positive.")
        mean = weight[judged].mean() if judged.any() else 1.0
        return cls(correct, overlap, weight / mean)

    def of_judged(self) -> "Labels":
        """Return the rows of the judged boxes."""
        rows = self.is_judged
        return Labels(self.is_correct[rows], self.iou[rows], self.weights[rows])
