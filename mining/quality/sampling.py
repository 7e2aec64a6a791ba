"""Random draws of boxes for a person to judge, stratified by class and score.

Every box of a run has the same probability of being drawn: the share of its stratum among the draws is its share among
the boxes, up to a random rounding. Strata are pieces of about equal score of one class, or of all rare classes
together, so that an estimate from few verdicts varies less than one from boxes drawn anywhere.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from mining.arrays import Floats, Ints

DRAWS_PER_CLASS = 8  # expected draws from which on a class has strata of its own
DRAWS_PER_STRATUM = 4  # expected draws
_RARE = -1


def stratify(category: Ints, score: Floats, draws: int) -> Ints:
    """Divide boxes into strata for a number of draws.

    Args:
        category: (N,) class of each box.
        score: (N,) score of each box.
        draws: How many boxes are, or were, drawn in all.

    Returns:
        (N,) int64 numbers of the strata, from 0 without gaps.
    """
    strata = np.zeros(len(category), np.int64)
    if not len(category):
        return strata
    _, index, counts = np.unique(category, return_inverse=True, return_counts=True)
    is_frequent = draws * counts / len(category) >= DRAWS_PER_CLASS
    group = np.where(is_frequent[index], index, _RARE)
    first = 0
    for one in np.unique(group):
        members = np.flatnonzero(group == one)
        members = members[np.argsort(-score[members], kind="stable")]
        pieces = max(1, int(draws * len(members) / len(category) / DRAWS_PER_STRATUM))
        for number, piece in enumerate(np.array_split(members, min(pieces, len(members)))):
            strata[piece] = first + number
        first = int(strata[members].max()) + 1
    return strata


def draw_boxes(strata: Ints, draws: int, random: np.random.Generator) -> Ints:
    """Draw boxes without replacement, each with the probability `draws` / N.

    Args:
        strata: (N,) number of each box's stratum, see `stratify`.
        draws: How many; all boxes if there are fewer.
        random: Source of randomness.

    Returns:
        Places of the drawn boxes, in random order, so that the first ones are a random draw too.
    """
    sizes = np.bincount(strata)
    drawn = [
        random.choice(np.flatnonzero(strata == stratum), count, replace=False)
        for stratum, count in enumerate(_shares(sizes, min(draws, len(strata)), random))
    ]
    return random.permutation(np.concatenate(drawn)) if drawn else np.zeros(0, np.int64)


def _shares(sizes: Ints, draws: int, random: np.random.Generator) -> npt.NDArray[Any]:
    """Divide the draws among strata in proportion to their sizes; fractions are rounded at random, sum unchanged."""
    if not sizes.sum():
        return np.zeros(len(sizes), np.int64)
    # equally spaced points from a random start on the line of all boxes: a stratum gets those that fall into it
    borders = np.concatenate([[0.0], np.cumsum(sizes)]) * draws / sizes.sum()
    return np.diff(np.floor(borders + random.random()).astype(np.int64))
