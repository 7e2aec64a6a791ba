"""Precision of the mined boxes, and what a minimum score does to precision and recall.

A mined box is correct where it hits a true box of its class at IoU 0.5 that no higher-scored box has hit: the matching
of PASCAL VOC (metrics.voc). A box on a true box that is difficult, ignored or a crowd counts neither as correct nor as
wrong. With n_correct and n_wrong boxes

    precision = n_correct / (n_correct + n_wrong)

Matching visits boxes by falling score, so dropping the boxes below a minimum score does not change the outcome of the
others, and the precision at each cut follows from one matching.
"""

from collections.abc import Sequence

import numpy as np

from mining.arrays import Bools, Floats
from mining.boxes.iou import paired_iou
from mining.evaluation.bootstrap import bootstrap_means
from mining.evaluation.boxes import Detections, TruthBoxes, candidate_pairs
from mining.evaluation.metrics.histogram import cell_index
from mining.evaluation.metrics.hits import IOU_THRESHOLD, mean_or_none
from mining.evaluation.metrics.voc import RankedMatches
from mining.evaluation.scores import ClassPrecision, PrecisionScores, ScoreBin, ScoreCut

DEFINITION = (
    "Share of the mined boxes that hit a true box of their class at IoU >= 0.5, each true box at most once, matched by "
    "falling score as PASCAL VOC does; boxes on difficult, ignore or crowd boxes count neither as correct nor as "
    "wrong. ci95: percentile bootstrap over images. precision_by_min_score: the same of the boxes that score at least "
    "min_score; recall there: share of the countable true boxes that one of these boxes covers at IoU >= 0.5. "
    "precision_by_score: the same of the boxes in each tenth of 0-1 by score, with their mean score."
)
SCORE_BINS = 10
KEPT_SHARES = (1.0, 0.9, 0.75, 0.5, 0.25, 0.1, 0.05)
_MIN_DECIMALS, _MAX_DECIMALS = 2, 6


def precision_scores(
    predicted: Detections, matches: RankedMatches, classes: Sequence[str], *, seed: int, resamples: int
) -> PrecisionScores:
    """Compute the `precision` part of scores.json.

    Args:
        predicted: Mined boxes.
        matches: `rank_matches` of the ground truth and these boxes at IoU 0.5.
        classes: Class names; `category` of the boxes counts into them.
        seed: Seed of the bootstrap over images.
        resamples: Number of resamples; 0 for no interval.

    Returns:
        Shares in [0, 1]; None where no box is correct or wrong.
    """
    is_counted = ~matches.is_ignored
    is_correct, category = matches.is_correct[is_counted], predicted.category[is_counted]
    ci95 = bootstrap_means(predicted.image[is_counted], [is_correct], seed=seed, resamples=resamples)[0]
    return {
        "value": mean_or_none(is_correct),
        "ci95": ci95,
        "definition": DEFINITION,
        "boxes": int(is_counted.sum()),
        "correct": int(is_correct.sum()),
        "ignored": int(matches.is_ignored.sum()),
        "per_class": {
            classes[number]: _class_row(is_correct[category == number]) for number in np.unique(category).tolist()
        },
    }


def precision_by_min_score(truth: TruthBoxes, predicted: Detections, matches: RankedMatches) -> list[ScoreCut]:
    """Compute the `precision_by_min_score` part of scores.json: precision and recall of the best-scored boxes.

    The cuts keep about 100, 90, 75, 50, 25, 10 and 5 % of the boxes; equal cuts appear once.

    Args:
        truth: True boxes.
        predicted: Mined boxes.
        matches: `rank_matches(truth, predicted)` at IoU 0.5.

    Returns:
        One row per cut, ascending; none without boxes.
    """
    # float32, as in the tables and where exports compare: 0.7 keeps a box that was stored as 0.7
    scores = predicted.scores.astype(np.float32)
    covering_score = _covering_score(truth, predicted)[truth.is_countable].astype(np.float32)
    rows: list[ScoreCut] = []
    for min_score in score_cuts(predicted.scores):
        is_kept = scores >= np.float32(min_score)
        rows.append(
            {
                "min_score": min_score,
                "boxes": int(is_kept.sum()),
                "precision": mean_or_none(matches.is_correct[is_kept & ~matches.is_ignored]),
                "recall": mean_or_none(covering_score >= np.float32(min_score)),
            }
        )
    return rows


def precision_by_score(predicted: Detections, matches: RankedMatches) -> list[ScoreBin]:
    """Compute the `precision_by_score` part of scores.json: precision of the boxes of about the same score.

    Args:
        predicted: Mined boxes.
        matches: `rank_matches` of the ground truth and these boxes at IoU 0.5.

    Returns:
        One row per tenth of 0-1 that holds boxes which are correct or wrong, ascending.
    """
    is_counted = ~matches.is_ignored
    scores, is_correct = predicted.scores[is_counted], matches.is_correct[is_counted]
    place = cell_index(scores, SCORE_BINS)
    boxes, score, correct = (
        np.bincount(place, weights, SCORE_BINS).tolist() for weights in (np.ones(len(scores)), scores, is_correct)
    )
    return [
        {
            "low": one / SCORE_BINS,
            "high": (one + 1) / SCORE_BINS,
            "boxes": int(boxes[one]),
            "predicted": score[one] / boxes[one],
            "observed": correct[one] / boxes[one],
        }
        for one in np.unique(place).tolist()
    ]


def score_cuts(scores: Floats) -> list[float]:
    """Choose minimum scores, rounded down to as few decimals (at least 2) as keep them apart.

    Args:
        scores: (n,) scores of boxes.

    Returns:
        At most one cut per entry of KEPT_SHARES, ascending and distinct; the first keeps all boxes.
    """
    if not len(scores):
        return []
    quantiles = np.quantile(scores, [1 - share for share in KEPT_SHARES])
    distinct = len(np.unique(quantiles))
    for decimals in range(_MIN_DECIMALS, _MAX_DECIMALS + 1):
        cuts = np.unique(np.floor(quantiles * 10**decimals) / 10**decimals)
        if len(cuts) == distinct:
            break
    return [float(cut) for cut in cuts]


def _covering_score(truth: TruthBoxes, predicted: Detections) -> Floats:
    """(m,) the highest score of a prediction that covers each true box at IoU 0.5; -inf where none does."""
    best = np.full(len(truth), -np.inf)
    for rows, true_rows in candidate_pairs(truth, predicted):
        is_covering = paired_iou(predicted.xyxy[rows], truth.xyxy[true_rows]) >= IOU_THRESHOLD
        np.maximum.at(best, true_rows[is_covering], predicted.scores[rows[is_covering]])
    return best


def _class_row(is_correct: Bools) -> ClassPrecision:
    return {"value": mean_or_none(is_correct), "boxes": len(is_correct)}
