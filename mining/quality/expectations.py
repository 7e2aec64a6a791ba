"""The expected outcome of each box, learnt from the verdicts themselves: what the estimates start from.

It is a mean of two. Two numbers, how good the boxes are and how much that depends on the score, are learnt from any
verdicts. From 50 on the cross-fitted calibration is learnt too, which uses all signals, and counts the more the more
verdicts there are: no box is predicted by one of its models that saw a verdict on its image. The calibration that the
run may have (calibration.json) is not used, because it may have been fitted to the same verdicts without being
cross-fitted, and estimates do not change when it is made again.
"""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from mining.arrays import Bools, Floats, Ints
from mining.quality.calibration import MIN_BOXES_TO_CALIBRATE, MIN_IMAGES, calibrate
from mining.quality.features import SCORE_WEIGHT, logit
from mining.quality.logistic import fit_logistic

HALF_WEIGHT = 25  # verdicts with which both count the same


def expected_outcomes(signals: pa.Table, images: Sequence[object], judged: Ints, is_correct: Bools) -> Floats:
    """Compute the probability that a person will find each box correct.

    Args:
        signals: N rows of `read_boxes_with_quality`; with few verdicts (`takes_signals`) only `score` is needed.
        images: Image of each row, e.g. its file name.
        judged: (n,) rows of the boxes that were drawn at random and judged.
        is_correct: (n,) whether each is correct.

    Returns:
        (N,) in 0-1.
    """
    by_score = _by_score(signals["score"].to_numpy().astype(np.float64), judged, is_correct)
    if not takes_signals(images, judged):
        return by_score
    known = np.full(len(signals), np.nan)
    known[judged] = is_correct
    by_signals = calibrate(signals, known, None, images).predict(signals, images).p_correct
    weight = len(judged) / (len(judged) + HALF_WEIGHT)
    return np.asarray(weight * by_signals + (1 - weight) * by_score, np.float64)


def takes_signals(images: Sequence[object], judged: Ints) -> bool:
    """Return whether there are enough verdicts to learn from all signals."""
    enough = len(judged) >= MIN_BOXES_TO_CALIBRATE
    return enough and len({str(images[row]) for row in judged.tolist()}) >= MIN_IMAGES


def _by_score(score: Floats, judged: Ints, is_correct: Bools) -> Floats:
    design = SCORE_WEIGHT * logit(score)[:, None]
    return fit_logistic(design[judged], is_correct.astype(np.float64), np.ones(len(judged))).predict(design)
