"""The share of boxes that are correct, from verdicts on a stratified random draw, with 95 % intervals.

The estimate is post-stratified: each stratum's share of correct boxes, weighted by its number of boxes. Its interval is
Wilson's score interval for as many verdicts as would give the same variance in a simple random sample (the effective
sample size), with the correction for a finite population, so that the interval is empty once every box is judged.

That interval is for a number of verdicts that was fixed beforehand. Stopping as soon as it is narrow enough selects
favourable moments. For that there is a second, wider interval, which is valid at every look: the asymptotic confidence
sequence of theorem 2.2 in Waudby-Smith, Arbour, Sinha, Kennedy, Ramdas, "Time-uniform central limit theory
and asymptotic confidence sequences", Annals of Statistics 2024.
"""

import math
from dataclasses import dataclass

import numpy as np

from mining.arrays import Bools, Floats, Ints
from mining.quality.sampling import stratify

Z = 1.959964  # of 95 %
ALPHA = 0.05
NARROWEST_AT = 100  # verdicts at which the sequence is narrowest, relative to the fixed interval
FEWEST_FOR_SEQUENCE = 50  # verdicts; its theory is of many
FEWEST_VERDICTS = 2
VERDICTS_PER_GAIN = 10  # of the rarer outcome, before strata may count for another simple draw of the same size


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


def estimate_precision(
    category: Ints, score: Floats, judged: Ints, is_correct: Bools, *, z: float = Z
) -> Precision | None:
    """Estimate the share of correct boxes of a run.

    Args:
        category: (N,) class of each box of the run.
        score: (N,) score of each box.
        judged: (n,) places of the boxes that were drawn and judged, each once.
        is_correct: (n,) whether each is correct.
        z: Quantile of the normal distribution behind `ci95`, for other levels than 95 %.

    Returns:
        None with fewer than FEWEST_VERDICTS verdicts, unless every box has one.
    """
    return _from_strata(stratify(category, score, len(judged)), judged, is_correct, z)


def estimate_per_class(category: Ints, score: Floats, judged: Ints, is_correct: Bools) -> dict[int, Precision | None]:
    """Estimate the share of correct boxes of each class, from the verdicts on it alone.

    Args:
        category: As for `estimate_precision`.
        score: As there.
        judged: As there.
        is_correct: As there.

    Returns:
        By class, ascending.
    """
    found = {}
    for one in np.unique(category):
        members = np.flatnonzero(category == one)
        inside = category[judged] == one
        places = np.searchsorted(members, judged[inside])
        found[int(one)] = estimate_precision(category[members], score[members], places, is_correct[inside])
    return found


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


def _from_strata(strata: Ints, judged: Ints, is_correct: Bools, z: float) -> Precision | None:
    if not len(judged) or len(judged) < min(FEWEST_VERDICTS, len(strata)):
        return None
    sizes = np.bincount(strata).astype(np.float64)
    counts = np.bincount(strata[judged], minlength=len(sizes)).astype(np.float64)
    correct = np.bincount(strata[judged], weights=is_correct, minlength=len(sizes))
    common, weights = float(is_correct.mean()), sizes / sizes.sum()
    has_any = counts > 0
    shares = np.where(has_any, correct / np.maximum(counts, 1), common)
    value = float((sizes * shares).sum() / sizes.sum())
    # a stratum of few verdicts may have none that is wrong: its spread is that with one more, of the common share,
    # which is kept off 0 and 1 for the same reason
    expected = (correct + (is_correct.sum() + 0.5) / (len(judged) + 1)) / (counts + 1)
    unseen = 1 - counts / sizes
    variance = float((weights**2 * unseen * expected * (1 - expected) / np.maximum(counts, 1)).sum())
    # of verdicts that are nearly all the same, strata of few of them seem surer than they are
    rarer = min(is_correct.sum(), len(judged) - is_correct.sum())
    simple = _variance(min(max(value, 0.5 / len(judged)), 1 - 0.5 / len(judged)), len(judged), len(strata))
    variance = max(variance, simple / (1 + rarer / VERDICTS_PER_GAIN))
    fixed = wilson(value, variance, len(judged), z)
    return Precision(value, fixed, _any_time(value, variance, len(judged), fixed), len(judged), len(strata))


def _variance(share: float, verdicts: int, boxes: int) -> float:
    """Variance of a share in a simple random draw."""
    return share * (1 - share) / verdicts * (1 - verdicts / boxes)


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
    inner = min(max(value, 0.5 / verdicts), 1 - 0.5 / verdicts)
    effective = inner * (1 - inner) / variance
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
