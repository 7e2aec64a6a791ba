"""How far reviewers agree on the boxes that they both judged."""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import combinations

from mining.quality.judgements import Judgement
from mining.quality.outcomes import is_correct


@dataclass(frozen=True)
class Agreement:
    """Agreement of two reviewers on whether boxes are correct.

    Attributes:
        first: Name.
        second: Name.
        boxes: Number of boxes that both judged and neither is unsure of.
        same: How many of them they agree on.
        kappa: Cohen's kappa; 1 where all verdicts are the same and it is not defined.
    """

    first: str
    second: str
    boxes: int
    same: int
    kappa: float


def agreements(judgements: Iterable[Judgement]) -> list[Agreement]:
    """Return the agreement of each pair of reviewers with common boxes, by name.

    Args:
        judgements: The last verdict of each reviewer on each box.
    """
    from sklearn.metrics import cohen_kappa_score

    by_reviewer: dict[str, dict[int, bool]] = {}
    for one in judgements:
        if (outcome := is_correct(one)) is not None:
            by_reviewer.setdefault(one.reviewer, {})[one.annotation_id] = outcome
    found = []
    for first, second in combinations(sorted(by_reviewer), 2):
        common = sorted(by_reviewer[first].keys() & by_reviewer[second].keys())
        if common:
            pairs = [[by_reviewer[who][box] for box in common] for who in (first, second)]
            same = sum(one == other for one, other in zip(*pairs, strict=True))
            # of verdicts that are all the same kappa is not defined: agreement by chance is complete
            kappa = 1.0 if same == len(common) else float(cohen_kappa_score(*pairs))
            found.append(Agreement(first, second, len(common), same, kappa))
    return found
