"""The share of boxes that are correct, from verdicts on a random draw, with 95 % intervals.

Every box has an expected outcome (`mining.quality.expectations`), and the verdicts correct the mean of these: the
estimate is the mean of the verdicts and of the expectations of all other boxes, which are moved by the mean difference
between verdict and expectation (a difference estimator, also known as prediction-powered). It is unbiased whatever the
expectations are; the better they are, the narrower its interval. That is Wilson's score interval for as many verdicts
as would give the same variance in a simple random sample (the effective sample size), with the correction for a finite
population, so that it is empty once every box is judged.

That interval is for a number of verdicts that was fixed beforehand. Stopping as soon as it is narrow enough selects
favourable moments. For that there is a second, wider interval, which is valid at every look: the asymptotic confidence
sequence of theorem 2.2 in Waudby-Smith, Arbour, Sinha, Kennedy, Ramdas, "Time-uniform central limit theory
and asymptotic confidence sequences", Annals of Statistics 2024.
"""

import math
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from mining.arrays import Bools, Floats, Ints

Z = 1.959964  # of 95 %
ALPHA = 0.05
NARROWEST_AT = 100  # verdicts at which the sequence is narrowest, relative to the fixed interval
FEWEST_FOR_SEQUENCE = 50  # verdicts; its theory is of many
FEWEST_VERDICTS = 2
PRIOR_VERDICTS = 2  # that the variance by the expectations counts for, next to that of the differences
VERDICTS_PER_GAIN = 3  # of the rarer outcome, before expectations may count for another simple draw of the same size


@dataclass(frozen=True)
class Precision:
    """The estimated share of correct boxes.

    Attributes:
        value: 0-1.
        ci95: Interval for a number of verdicts that was fixed beforehand.
        ci95_any_time: Interval that is valid at every look, None with too few verdicts.
        verdicts: Number of verdicts that it is from.
        boxes: Number of boxes that it is about.
    """

    value: float
    ci95: tuple[float, float]
    ci95_any_time: tuple[float, float] | None
    verdicts: int
    boxes: int

    @property
    def half_width(self) -> float:
        """Half the width of `ci95`."""
        return (self.ci95[1] - self.ci95[0]) / 2


@dataclass(frozen=True)
class Sample:
    """Boxes, and the verdicts on those of them that were drawn at random.

    Attributes:
        expected: (N,) expected outcome of each box, 0-1.
        judged: (n,) places of the boxes with a verdict, each once.
        is_correct: (n,) what it says.
        rarer_of_run: Number of verdicts of the rarer outcome in the whole run; None if these are all boxes of the run.
    """

    expected: Floats
    judged: Ints
    is_correct: Bools
    rarer_of_run: int | None = None

    @cached_property
    def rarer(self) -> int:
        """Number of verdicts of the rarer outcome that the expectations were learnt from."""
        correct = int(self.is_correct.sum())
        return min(correct, len(self.judged) - correct) if self.rarer_of_run is None else self.rarer_of_run

    def of(self, some: Bools) -> "Sample":
        """Return the part with some boxes, (N,) bool, which must not depend on the verdicts."""
        members, inside = np.flatnonzero(some), some[self.judged]
        places = np.searchsorted(members, self.judged[inside])
        return replace(
            self, expected=self.expected[members], judged=places, is_correct=self.is_correct[inside],
            rarer_of_run=self.rarer,
        )  # fmt: skip


def estimate_precision(sample: Sample, *, z: float = Z) -> Precision | None:
    """Estimate the share of correct boxes.

    Args:
        sample: The boxes and verdicts.
        z: Quantile of the normal distribution behind `ci95`, for other levels than 95 %.

    Returns:
        None with fewer than FEWEST_VERDICTS verdicts, unless every box has one.
    """
    verdicts, boxes = len(sample.judged), len(sample.expected)
    if not verdicts or verdicts < min(FEWEST_VERDICTS, boxes):
        return None
    value, variance = _value_and_variance(sample)
    fixed = wilson(value, variance, verdicts, z)
    return Precision(value, fixed, _any_time(value, variance, verdicts, fixed), verdicts, boxes)


def estimate_per_class(category: Ints, sample: Sample) -> dict[int, Precision | None]:
    """Estimate the share of correct boxes of each class.

    Args:
        category: (N,) class of each box.
        sample: The boxes and verdicts.

    Returns:
        By class, ascending.
    """
    return {int(one): estimate_precision(sample.of(category == one)) for one in np.unique(category)}


def verdicts_for(half_width: float, boxes: int, share: float = 0.5) -> int:
    """Compute how many verdicts on a simple random draw give an interval of a half width.

    Args:
        half_width: 0-1.
        boxes: Number of boxes of the run.
        share: Expected share of correct boxes; 0.5 needs the most verdicts.
    """
    wanted = Z**2 * share * (1 - share) / half_width**2
    return min(boxes, math.ceil(wanted / (1 + wanted / max(1, boxes))))


def verdicts_to_halve(estimate: Precision) -> int:
    """Compute how many more verdicts would halve the interval."""
    now = 1 / estimate.verdicts - 1 / estimate.boxes
    wanted = 1 / (now / 4 + 1 / estimate.boxes)
    return min(estimate.boxes, math.ceil(wanted)) - estimate.verdicts


def _value_and_variance(sample: Sample) -> tuple[float, float]:
    verdicts, boxes = len(sample.judged), len(sample.expected)
    outcome, expected = sample.is_correct.astype(np.float64), sample.expected[sample.judged]
    share, unseen = float(outcome.mean()), 1 - verdicts / boxes
    simple = _spread(share, verdicts) / verdicts * unseen
    if share in (0.0, 1.0):
        return share, simple
    difference = outcome - expected
    value = (outcome.sum() + sample.expected.sum() - expected.sum()) / boxes + unseen * difference.mean()
    # differences of few verdicts may be small by chance; what the expectations themselves say of it counts a little
    spread = verdicts * difference.var(ddof=1) + PRIOR_VERDICTS * float((expected * (1 - expected)).mean())
    variance = spread / (verdicts + PRIOR_VERDICTS) / verdicts * unseen
    value = float(min(max(value, 0.0), 1.0))
    # where nearly all verdicts of a run are the same, the expectations seem surer than they are
    simple = _spread(value, verdicts) / verdicts * unseen
    return value, float(max(variance, simple / (1 + sample.rarer / VERDICTS_PER_GAIN)))


def _spread(share: float, verdicts: int) -> float:
    """Variance of a verdict; a share of 0 or 1 counts as half a verdict off."""
    inner = min(max(share, 0.5 / verdicts), 1 - 0.5 / verdicts)
    return inner * (1 - inner)


def share_interval(share: float, number: int) -> tuple[float, float]:
    """Compute Wilson's 95 % interval of a share of `number` independent outcomes; 0 to 1 where there is none."""
    return wilson(share, _spread(share, number) / number, number, Z) if number else (0.0, 1.0)


def wilson(value: float, variance: float, verdicts: int, z: float) -> tuple[float, float]:
    """Compute Wilson's interval for the effective sample size.

    Args:
        value: The estimated share, 0-1.
        variance: Its variance.
        verdicts: Number of verdicts behind it, which keeps a share of 0 or 1 off the border.
        z: Quantile of the normal distribution, for the level.
    """
    if variance <= 0:
        return value, value
    effective = _spread(value, verdicts) / variance
    middle = (value + z**2 / (2 * effective)) / (1 + z**2 / effective)
    spread = z / (1 + z**2 / effective) * math.sqrt(value * (1 - value) / effective + z**2 / (4 * effective**2))
    return max(0.0, middle - spread), min(1.0, middle + spread)


def _any_time(value: float, variance: float, verdicts: int, fixed: tuple[float, float]) -> tuple[float, float] | None:
    """The confidence sequence at this number of verdicts.

    It is symmetric, and of verdicts that are nearly all the same too narrow: it is never narrower than `fixed`.
    """
    if verdicts < FEWEST_FOR_SEQUENCE:
        return None
    rho2 = (-2 * math.log(ALPHA) + math.log(-2 * math.log(ALPHA)) + 1) / NARROWEST_AT
    grown = verdicts * rho2 + 1
    factor = math.sqrt(2 * grown / (verdicts * rho2) * math.log(math.sqrt(grown) / ALPHA))
    spread = factor * math.sqrt(max(variance, 0.0))
    return max(0.0, min(fixed[0], value - spread)), min(1.0, max(fixed[1], value + spread))
