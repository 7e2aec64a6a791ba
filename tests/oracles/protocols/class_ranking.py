"""Rank classes by their scores."""

import numpy as np
from numpy.typing import ArrayLike

from mining.arrays import Ints
from mining.errors import ScoringError
from mining.evaluation.metrics.localization import TOPS


def rank_classes(scores: ArrayLike, top: int = max(TOPS)) -> Ints:
    """Rank classes by score; of equal scores the lower class goes first.

    Args:
        scores: (N, C) float, C >= 1, higher means more likely.
        top: Number of classes to keep.

    Returns:
        (N, K) class numbers, best first; K is `top`, or C where that is less.

    Raises:
        ScoringError: The shape is another, or a score is NaN.
    """
    values = np.asarray(scores, np.float64)
    if values.ndim != 2 or not values.shape[1]:
        raise ScoringError(
            f"Class scores have shape {values.shape}; expected one row per image and one column per class."
        )
    if np.isnan(values).any():
        raise ScoringError("Class scores hold NaN; the model's weights are broken or overflowed.")
    return np.argsort(-values, axis=1, kind="stable")[:, :top].astype(np.int64)
