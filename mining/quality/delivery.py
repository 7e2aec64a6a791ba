"""The largest subset of a run's boxes whose precision is, with 95 % confidence, at least what was asked for.

Subsets are the best-scored boxes, of a few sizes that are fixed beforehand. Each is tested with the lower end of a
one-sided interval at a level of 5 % divided by their number (Bonferroni), so that the promise is kept whichever is
chosen: precision need not fall with the size. Tests of one subset after the other until the first fails (fixed
sequence) deliver less with some hundred verdicts, because small subsets have few of them.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.stats import norm

from mining.arrays import Bools, Floats, Ints
from mining.errors import InputError
from mining.quality.audit import judged_boxes
from mining.quality.estimates import ALPHA, Precision, estimate_precision

SHARES = (0.15, 0.25, 0.35, 0.45, 0.55, 0.65, 0.8, 1.0)  # of the boxes, best score first
_ONE_SIDED = float(norm.ppf(1 - ALPHA / len(SHARES)))


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


def largest_subset(
    category: Ints, score: Floats, judged: Ints, is_correct: Bools, precision: float
) -> tuple[Subset | None, list[Subset]]:
    """Find the largest subset whose precision is at least `precision`, with 95 % confidence.

    Args:
        category: (N,) class of each box of the run.
        score: (N,) score of each box.
        judged: (n,) places of the boxes that were drawn and judged.
        is_correct: (n,) whether each is correct.
        precision: 0-1.

    Returns:
        The subset, None if there is none; and all subsets that were tested, smallest first.
    """
    ranked = np.sort(score)[::-1]
    tested = []
    for share in SHARES:
        cut = 0.0 if share == 1 else float(ranked[max(0, int(np.ceil(share * len(ranked))) - 1)])
        members = np.flatnonzero(score >= cut)
        inside = score[judged] >= cut
        places = np.searchsorted(members, judged[inside])
        found = estimate_precision(category[members], score[members], places, is_correct[inside], z=_ONE_SIDED)
        if found is not None:
            tested.append(Subset(cut, len(members), found))
    passed = [one for one in tested if one.precision.ci95[0] >= precision]
    return (passed[-1] if passed else None), tested


def subset_of_run(run_dir: Path, precision: float) -> Subset:
    """Find the largest subset of a run's boxes whose precision is at least `precision`, from its verdicts.

    Raises:
        InputError: The precision is not between 0 and 1, the run has too few verdicts, or no subset reaches it.
    """
    if not 0 < precision < 1:
        raise InputError(f"min_precision is {precision}; it must be between 0 and 1.")
    boxes = judged_boxes(run_dir)
    subset, tested = largest_subset(boxes.category, boxes.score, boxes.judged, boxes.is_correct, precision)
    if subset is not None:
        return subset
    if not tested:
        raise InputError(
            f"The run {run_dir} has too few verdicts on boxes drawn at random: draw some with `boxmine audit plan`."
        )
    best = max(tested, key=lambda one: one.precision.ci95[0])
    value, low = best.precision.value, best.precision.ci95[0]
    raise InputError(
        f"No subset of the boxes has a precision of at least {precision:g} with 95 % confidence, from "
        f"{len(boxes.judged)} verdicts. Nearest: the {best.boxes} boxes that score {best.min_score:.3g} or more, "
        f"{value:.3f}, at least {low:.3f}. {_hope(best, precision, len(boxes.judged))}"
    )


def _hope(best: Subset, precision: float, verdicts: int) -> str:
    """How many verdicts might change a refusal."""
    margin = best.precision.value - precision
    if margin <= 0:
        return "More verdicts will hardly change that; give a lower precision."
    needed = int(np.ceil(verdicts * ((best.precision.value - best.precision.ci95[0]) / margin) ** 2))
    return f"About {needed} verdicts might be enough."
