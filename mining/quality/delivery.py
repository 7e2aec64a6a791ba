"""The largest subset of a run's boxes whose precision is, with 95 % confidence, at least what was asked for.

Subsets are the best-scored boxes. They are tested one after the other, from a small one to all boxes, until one fails,
and the last one that passed is delivered. The promise is broken only if the first subset that is not good enough
passes, whatever the order of the boxes is worth; so each test has nearly the whole 5 % (a fixed sequence of tests:
Maurer, Hothorn, Lehmacher 1995; Angelopoulos et al., "Learn then test", 2021). The first subset has enough verdicts to
pass with some that are wrong; smaller ones would often fail by chance, and end the sequence.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.stats import norm

from mining.arrays import Floats
from mining.errors import InputError
from mining.quality.audit import judged_boxes
from mining.quality.estimates import Precision, Sample, estimate_precision

LEVEL = 0.04  # of each test, not 0.05: intervals from few verdicts are right a little less often than they say
FIRST_VERDICTS = 140  # in the first subset, or
FIRST_SHARE = 0.3  # of the verdicts, if that is less
SPARE = 2.0  # times as many as pass if none is wrong: at least so many
STEP = 0.025  # of the boxes, from one subset to the next
_SMALLEST = 0.05  # share of the boxes in the smallest subset that a refusal looks at
_FEWEST_TO_HOPE = 10  # verdicts in it
_ONE_SIDED = float(norm.ppf(1 - LEVEL))


@dataclass(frozen=True)
class Subset:
    """Boxes that score at least `min_score`.

    Attributes:
        min_score: 0-1; 0 for all boxes.
        boxes: Their number.
        precision: Their estimated precision; its `ci95` is the interval of the test, whose lower end counts.
    """

    min_score: float
    boxes: int
    precision: Precision


def largest_subset(score: Floats, sample: Sample, precision: float) -> tuple[Subset | None, list[Subset]]:
    """Find the largest subset whose precision is at least `precision`, with 95 % confidence.

    Args:
        score: (N,) score of each box of the run.
        sample: The boxes and verdicts.
        precision: 0-1.

    Returns:
        The subset, None if there is none; and the subsets that were tested, smallest first.
    """
    ranked = np.sort(score)[::-1]
    tested: list[Subset] = []
    for share in _shares(len(sample.judged), precision):
        cut = 0.0 if share == 1 else float(ranked[max(0, int(np.ceil(share * len(ranked))) - 1)])
        part = sample.of(score >= cut)
        found = estimate_precision(part, z=_ONE_SIDED)
        if found is None:
            break
        tested.append(Subset(cut, len(part.expected), found))
        if found.ci95[0] < precision:
            break
    passed = [one for one in tested if one.precision.ci95[0] >= precision]
    return (passed[-1] if passed else None), tested


def _shares(verdicts: int, precision: float) -> list[float]:
    """The sizes of the subsets as shares of all boxes, ascending; what the verdicts are does not count."""
    first = max(min(FIRST_VERDICTS, FIRST_SHARE * verdicts), SPARE * _passing(precision)) / max(verdicts, 1)
    return [*np.arange(first, 1 - STEP / 2, STEP).tolist(), 1.0]


def _passing(precision: float) -> float:
    """How many verdicts pass if all say correct: their interval's lower end is at the precision."""
    return _ONE_SIDED**2 * precision / (1 - precision)


def subset_of_run(run_dir: Path, precision: float) -> Subset:
    """Find the largest subset of a run's boxes whose precision is at least `precision`, from its verdicts.

    Raises:
        InputError: The precision is not between 0 and 1, the run has too few verdicts, or no subset reaches it.
    """
    if not 0 < precision < 1:
        raise InputError(f"min_precision is {precision}; it must be between 0 and 1.")
    boxes = judged_boxes(run_dir)
    subset, tested = largest_subset(boxes.score, boxes.sample, precision)
    if subset is not None:
        return subset
    if not tested:
        raise InputError(
            f"The run {run_dir} has too few verdicts on boxes drawn at random: draw some with `boxmine audit plan`."
        )
    best = max(tested, key=lambda one: one.precision.ci95[0])
    value, low = best.precision.value, best.precision.ci95[0]
    raise InputError(
        f"No subset of the boxes can be promised to have a precision of at least {precision:g} with 95 % confidence, "
        f"from {len(boxes.judged)} verdicts. Nearest: the {best.boxes} boxes that score {best.min_score:.3g} or more, "
        f"{value:.3f}, at least {low:.3f}. {_hope(boxes.score, boxes.sample, precision)}"
    )


def _hope(score: Floats, sample: Sample, precision: float) -> str:
    """How many verdicts might change a refusal, by what is known now of subsets of every size."""
    verdicts, boxes = len(sample.judged), len(score)
    needed = []
    for share in np.arange(_SMALLEST, 1 + _SMALLEST / 2, _SMALLEST):
        part = sample.of(score >= np.quantile(score, 1 - share))
        found = estimate_precision(part, z=_ONE_SIDED)
        if found is not None and found.verdicts >= _FEWEST_TO_HOPE and found.value > precision:
            # the interval narrows with the root of the number, and the first subset must have enough of them
            narrower = ((found.value - found.ci95[0]) / (found.value - precision)) ** 2
            needed.append(max(verdicts * narrower, SPARE * _passing(precision) / share))
    if not needed:
        return "More verdicts will hardly change that; give a lower precision."
    return f"About {min(boxes, int(np.ceil(min(needed))))} verdicts might be enough."
