"""Whether a round's boxes are better than those before, by what people said of a random draw of both.

The figure is CorLoc's without ground truth: the share of the best boxes, one per image and class, that are correct. The
precision of all boxes would fall with every further object that a round finds less certainly, which is no fault.
"""

import math
from dataclasses import dataclass

import numpy as np

from mining.arrays import Bools
from mining.fusion.box_tables import rows_by_pair
from mining.quality.audit import judged_boxes
from mining.quality.estimates import Precision, estimate_precision
from mining.quality.verdicts import VERDICTS_FILE
from mining.runs.run import Run


@dataclass(frozen=True)
class VerdictComparison:
    """Two runs, compared by verdicts.

    Attributes:
        before: Share of correct best boxes of the first run, with its interval.
        after: The same of the second run.
        difference: The second less the first.
        ci95: Its interval; the two draws are independent.
    """

    before: Precision
    after: Precision
    difference: float
    ci95: tuple[float, float]

    @property
    def is_better(self) -> bool | None:
        """Whether the second run is better; None where that may be chance."""
        return None if self.ci95[0] <= 0 <= self.ci95[1] else self.difference > 0

    @property
    def text(self) -> str:
        """The figures in a sentence."""
        (low, high), verdict = self.ci95, {True: "better", False: "worse", None: "this may be chance"}[self.is_better]
        return (
            f"By {self.before.verdicts} and {self.after.verdicts} verdicts on the best boxes of images and classes, "
            f"{self.after.value:.1%} are correct against {self.before.value:.1%}, difference {self.difference:+.1%} "
            f"({low:+.1%} to {high:+.1%}): {verdict}."
        )


def compare_by_verdicts(before: Run, after: Run) -> VerdictComparison | None:
    """Compare two runs by the verdicts on boxes that were drawn at random (`boxmine audit plan`) from each of them.

    Args:
        before: A finished run.
        after: Another one of the same images.

    Returns:
        None unless both have verdicts on at least two of their best boxes.

    Raises:
        InputError: Verdicts are damaged.
        RunError: A table is damaged.
    """
    first, second = _precision_of_best(before), _precision_of_best(after)
    return None if first is None or second is None else compare(first, second)


def compare(before: Precision, after: Precision) -> VerdictComparison:
    """Compare two estimates from independent draws.

    Reference:
        Newcombe: Interval estimation for the difference between independent proportions, Statistics in Medicine 17,
        1998, method 10.
    """
    difference = after.value - before.value
    down = math.hypot(after.value - after.ci95[0], before.ci95[1] - before.value)
    up = math.hypot(after.ci95[1] - after.value, before.value - before.ci95[0])
    return VerdictComparison(before, after, difference, (difference - down, difference + up))


def _precision_of_best(run: Run) -> Precision | None:
    if not (run.path / VERDICTS_FILE).is_file():
        return None
    return estimate_precision(judged_boxes(run.path).sample.of(_is_best(run)))


def _is_best(run: Run) -> Bools:
    """(n,) whether a box of the run's table is the best one of its image and class."""
    table = run.read_annotations(["annotation_id", "image_id", "category_id", "score"])
    ids, score = table["annotation_id"].to_numpy(), table["score"].to_numpy()
    best = np.zeros(len(table), bool)
    best[[rows[np.lexsort((ids[rows], -score[rows]))[0]] for rows in rows_by_pair(table).values()]] = True
    return best
