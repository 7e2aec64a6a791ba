"""The precision of boxes that come from several runs, each with a random draw and verdicts of its own.

Every run is a stratum. The share of correct boxes is the mean of the runs' estimates, weighted by their boxes. The ends
of the interval are as far from it as the root of the sum of the runs' squared distances, each weighted likewise (MOVER:
Zou and Donner, "Construction of confidence intervals about effect measures: a general approach", Statistics in Medicine
2008). So the interval of a single run is that of `mining.quality.estimates`, and stays asymmetric near 0 and 1, where a
sum of variances would promise too much.

A run without an interval may have any precision: its boxes count as wrong at the lower end, as correct at the upper.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt

from mining.quality.estimates import Precision


@dataclass(frozen=True)
class RunPrecision:
    """What the verdicts of one run say.

    Attributes:
        boxes: Number of the run's boxes that count.
        precision: Their estimated precision, None with too few verdicts.
        pending: How many boxes that were drawn have no verdict yet.
    """

    boxes: int
    precision: Precision | None
    pending: int = 0

    @property
    def interval(self) -> tuple[float, float] | None:
        """The 95 % interval: the one that is valid at every look, as long as boxes that were drawn have no verdict."""
        if self.precision is None:
            return None
        return self.precision.ci95_any_time if self.pending else self.precision.ci95


@dataclass(frozen=True)
class CombinedPrecision:
    """The estimated share of correct boxes of several runs.

    Attributes:
        value: Of the boxes of runs with an estimate, 0-1; None without any.
        ci95: Interval of the share of all boxes.
        verdicts: Number of verdicts that it is from.
        boxes: Number of all boxes.
        unknown: Number of the boxes that are of runs without an interval.
    """

    value: float | None
    ci95: tuple[float, float]
    verdicts: int
    boxes: int
    unknown: int


def combine_runs(runs: Sequence[RunPrecision]) -> CombinedPrecision:
    """Estimate the share of correct boxes of several runs.

    Args:
        runs: One entry per run.

    Returns:
        Without any verdict an interval from 0 to 1.
    """
    known = [(run.boxes, run.precision, run.interval) for run in runs if run.boxes]
    total = sum(run.boxes for run in runs)
    value = low = high = 0.0
    verdicts = counted = estimated = 0
    for boxes, precision, interval in known:
        if precision is None:
            continue
        verdicts, estimated, value = verdicts + precision.verdicts, estimated + boxes, value + boxes * precision.value
        if interval is not None:
            counted += boxes
            low += (boxes * (precision.value - interval[0])) ** 2
            high += (boxes * (interval[1] - precision.value)) ** 2
    if not total:
        return CombinedPrecision(None, (0.0, 1.0), 0, 0, 0)
    middle = sum(boxes * one.value for boxes, one, interval in known if one is not None and interval is not None)
    unknown = total - counted
    ends = max(0.0, (middle - sqrt(low)) / total), min(1.0, (middle + sqrt(high) + unknown) / total)
    return CombinedPrecision(value / estimated if estimated else None, ends, verdicts, total, unknown)
