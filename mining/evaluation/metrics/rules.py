"""What the protocols have in common: when an overlap is a hit, and what the mean of nothing is."""

from collections.abc import Sequence
from typing import Literal

import numpy as np

from mining.arrays import Bools, Floats, Ints

IouRule = Literal["at_least", "above"]
_COMPARE = {"at_least": np.greater_equal, "above": np.greater}


def is_hit(iou: Floats, threshold: float, rule: IouRule) -> Bools:
    """Whether overlaps, any shape, are hits.

    rule: "at_least", IoU >= threshold, as evaluation code mostly has it; "above", IoU > threshold, as papers mostly
    word it. Raises ValueError for another rule, or unless 0 < threshold <= 1: at 0 every box would be a hit.
    """
    if rule not in _COMPARE:
        raise ValueError(f"The IoU rule is {rule!r}; expected one of {', '.join(_COMPARE)}.")
    if not 0 < threshold <= 1:
        raise ValueError(f"The IoU threshold is {threshold}; expected more than 0 and at most 1.")
    return np.asarray(_COMPARE[rule](iou, threshold), bool)


def mean_of(values: Sequence[float] | Floats | Ints | Bools) -> float | None:
    """The mean, None where there is no value."""
    return float(np.mean(values)) if len(values) else None
