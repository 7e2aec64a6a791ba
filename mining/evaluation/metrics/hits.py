"""What the metrics share: pairs of an image and a class, when an overlap is a hit, and means over nothing."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from mining.arrays import Bools, Floats, Ints

IouRule = Literal["at_least", "above"]
IOU_THRESHOLD = 0.5
_COMPARE = {"at_least": np.greater_equal, "above": np.greater}


@dataclass(frozen=True)
class PairResults:
    """One row per (image, class) pair for which the ground truth has a countable box; P rows.

    Attributes:
        image: (P,) int.
        category: (P,) int.
        best_iou: (P,) IoU of the best-scored predicted box with the nearest countable true box; 0 without prediction.
        two_best_iou: (P,) the higher such IoU of the two best-scored predicted boxes.
        any_iou: (P,) highest such IoU of any predicted box of the pair.
        predictions: (P,) int, number of predicted boxes of the class in the image.
    """

    image: Ints
    category: Ints
    best_iou: Floats
    two_best_iou: Floats
    any_iou: Floats
    predictions: Ints


def is_hit(iou: Floats, threshold: float, rule: IouRule) -> Bools:
    """Return which overlaps are hits.

    Args:
        iou: IoU values, any shape.
        threshold: In (0, 1]; at 0 every box would be a hit.
        rule: "at_least" for IoU >= threshold, as most evaluation code has it; "above" for IoU > threshold, as most
            papers word it.

    Returns:
        Bool array of the shape of `iou`.

    Raises:
        ValueError: The rule is unknown or the threshold is out of range.
    """
    if rule not in _COMPARE:
        raise ValueError(f"The IoU rule is {rule!r}; expected one of {', '.join(_COMPARE)}.")
    if not 0 < threshold <= 1:
        raise ValueError(f"The IoU threshold is {threshold}; expected more than 0 and at most 1.")
    return np.asarray(_COMPARE[rule](iou, threshold), bool)


def mean_or_none(values: Sequence[float] | Floats | Ints | Bools) -> float | None:
    """Return the mean of the values, None where there are none."""
    return float(np.mean(values)) if len(values) else None
