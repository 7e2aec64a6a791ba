"""CorLoc at other thresholds than the mined one, and how to choose a threshold without looking at the answers twice.

CorLoc of the box that a run's maps give at each of T thresholds (curves.parquet), over the pairs and by the rule of
`corloc`: the best-scored box of the class reaches IoU 0.5 with any countable true box of the pair. From it:

    oracle      the threshold that is best on all scored pairs. It is selected on the test data: an upper bound
    chosen      cross-validated: the images are split into folds, and each fold is cut at the threshold that is best on
                the others. `threshold` is the best on all images, to be used on new ones
    per class   the same with a threshold for each class c: the best of (H_c(t) + k M(t)) / (n_c + k), with H_c the hits
                of the class, n_c its pairs, M the mean over all pairs and k = 25, which shrinks classes with few pairs
                toward the common threshold
    stability   no ground truth: for each map the middle of the longest range of thresholds over which the box stays the
                same (IoU of at least 0.95 from each threshold to the next)
    otsu, entropy   no ground truth: for each map the threshold of its grey levels (mining.regions.threshold_curves)

Intervals are percentile bootstraps over images; those of `chosen` keep the thresholds of the folds fixed.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from mining.arrays import Bools, Floats, Ints
from mining.boxes.iou import paired_iou
from mining.evaluation.bootstrap import bootstrap_means
from mining.evaluation.boxes import TruthBoxes, encode_pairs
from mining.evaluation.metrics.hits import IOU_THRESHOLD, mean_or_none
from mining.evaluation.run_reading import CurveBlock
from mining.evaluation.scores import ThresholdScores, ThresholdWay
from mining.regions.map_thresholds import nearest_positions, stable_positions

DEFINITION = (
    "CorLoc at IoU >= 0.5 of the box that the maps give at a threshold. oracle: the threshold that is best on all "
    "scored pairs, an upper bound. chosen: cross-validated over images, each fold cut at the threshold "
    "that is best on the others. per_class: the same with a threshold per class, shrunk toward the common "
    "one. stability, otsu, entropy: one threshold per map, without ground truth. mined: the run's own boxes. "
    "over_mined: difference to these on the same pairs. ci95: percentile bootstrap over images."
)
FOLDS = 5
SHRINKAGE = 25
_NO_BOX = -1


@dataclass(frozen=True)
class ThresholdHits:
    """Which thresholds give each pair of the ground truth a correct box; P pairs, T thresholds.

    Attributes:
        thresholds: (T,) ascending.
        image: (P,) int, ascending.
        category: (P,) int, ascending within an image.
        hit: (P, T) bool.
        at: For IoU 0.3 and 0.7 (T,) shares of the pairs.
        boxes: (T,) mean number of boxes per pair.
        by_map: For stability, otsu and entropy (P,) int, position of the map's own threshold; -1 without a map.
    """

    thresholds: Floats
    image: Ints
    category: Ints
    hit: Bools
    at: dict[float, Floats]
    boxes: Floats
    by_map: dict[str, Ints]


def threshold_hits(truth: TruthBoxes, thresholds: Floats, blocks: Iterable[CurveBlock]) -> ThresholdHits:
    """Compare the boxes at all thresholds with the ground truth.

    Args:
        truth: True boxes.
        thresholds: (T,) thresholds of the curves.
        blocks: The run's curves; a pair without a curve is missed at every threshold.

    Returns:
        The hits of each pair.
    """
    pairs = _TruthPairs(truth)
    total = len(pairs.codes)
    hit = np.zeros((total, len(thresholds)), bool)
    at = {iou: np.zeros(len(thresholds)) for iou in (0.3, 0.7)}
    boxes = np.zeros(len(thresholds))
    by_map = {name: np.full(total, _NO_BOX) for name in ("stability", "otsu", "entropy")}
    for block in blocks:
        rows, pair = pairs.find(block.image, block.category)
        xyxy = block.xyxy[rows]
        best_iou = pairs.best_iou(pair, xyxy)
        hit[pair] = best_iou >= IOU_THRESHOLD
        for iou, shares in at.items():
            shares += (best_iou >= iou).sum(axis=0) / total
        boxes += block.boxes[rows].sum(axis=0) / total
        by_map["stability"][pair] = stable_positions(xyxy)
        by_map["otsu"][pair] = nearest_positions(block.otsu[rows], thresholds)
        by_map["entropy"][pair] = nearest_positions(block.entropy[rows], thresholds)
    image, category = np.divmod(pairs.codes, pairs.classes)
    return ThresholdHits(thresholds, image, category, hit, at, boxes, by_map)


class _TruthPairs:
    """The pairs of the ground truth that have a countable box, with the boxes of a pair in consecutive rows."""

    def __init__(self, truth: TruthBoxes) -> None:
        countable = truth.where(truth.is_countable)
        self.classes = 1 + int(countable.category.max(initial=0))
        code = encode_pairs(countable.image, countable.category, self.classes)
        order = np.argsort(code, kind="stable")
        self.xyxy = countable.xyxy[order]
        self.codes, self.first, self.count = np.unique(code[order], return_index=True, return_counts=True)

    def find(self, image: Ints, category: Ints) -> tuple[Ints, Ints]:
        """The rows of curves (p,) whose pair has a countable box, and the positions of these pairs."""
        code = np.where(category < self.classes, encode_pairs(image, category, self.classes), -1)
        position = np.searchsorted(self.codes, code)
        rows = np.flatnonzero(np.append(self.codes, -2)[position] == code)
        return rows, position[rows]

    def best_iou(self, pair: Ints, xyxy: NDArray[np.float32]) -> Floats:
        """(p, T) the best IoU of each pair's box at each threshold with any true box of the pair."""
        best = np.zeros(xyxy.shape[:2])
        for step in range(int(self.count[pair].max(initial=0))):
            rows = np.flatnonzero(step < self.count[pair])
            true_box = self.xyxy[self.first[pair[rows]] + step]
            best[rows] = np.maximum(best[rows], paired_iou(xyxy[rows], true_box[:, None]))
        return best


def threshold_scores(
    hits: ThresholdHits,
    mined: Bools,
    classes: Sequence[str],
    *,
    mined_at: float | None,
    seed: int,
    resamples: int,
) -> ThresholdScores | None:
    """Compute the `thresholds` part of scores.json.

    Args:
        hits: `threshold_hits` of the run's curves.
        mined: (P,) bool, whether the run's own box of each pair is correct.
        classes: Class names, by class number.
        mined_at: The threshold of the run's own boxes; None where they have no common one.
        seed: Seed of the folds and of the bootstrap over images.
        resamples: Number of resamples; 0 for no intervals.

    Returns:
        CorLoc of each way to choose the threshold; None where the ground truth has no countable box.
    """
    if not len(hits.hit):
        return None
    grid: list[float] = hits.thresholds.tolist()
    best = best_position(hits.hit.mean(axis=0))
    fold = assign_folds(hits.image, seed)
    chosen, per_class = _cross_validate(hits, fold)
    position = {"oracle": np.full(len(mined), best), "chosen": chosen, "per_class": per_class, **hits.by_map}
    is_correct = {"mined": mined} | {name: _hits_at(hits.hit, at) for name, at in position.items()}
    figures = _corloc_by_way(hits.image, is_correct, seed=seed, resamples=resamples)
    class_thresholds = class_positions(hits.hit, hits.category)
    thresholds: dict[str, dict[str, Any]] = {
        "mined": {"threshold": mined_at},
        "oracle": {"threshold": grid[best]},
        "chosen": {"threshold": grid[best], "fold_thresholds": [grid[i] for i in _position_by_fold(chosen, fold)]},
        "per_class": {"thresholds": {classes[c]: grid[i] for c, i in class_thresholds.items()}},
        **{name: {"mean_threshold": mean_or_none(hits.thresholds[at[at >= 0]])} for name, at in hits.by_map.items()},
    }
    ways = {name: {**thresholds[name], **figure} for name, figure in figures.items()}
    if len(np.unique(fold)) < 2:  # with a single image nothing can be held out
        ways |= {name: {"corloc": None, "ci95": None} for name in ("chosen", "per_class")}
    scores = {"definition": DEFINITION, "pairs": len(mined), **ways, "curve": _curve(hits)}
    return cast(ThresholdScores, scores)


def _corloc_by_way(image: Ints, is_correct: dict[str, Bools], *, seed: int, resamples: int) -> dict[str, ThresholdWay]:
    """CorLoc of each way to choose, from (P,) hits, and its difference to the boxes as mined."""
    over = {name: np.subtract(hits, is_correct["mined"], dtype=np.float64) for name, hits in is_correct.items()}
    intervals = bootstrap_means(image, [*is_correct.values(), *over.values()], seed=seed, resamples=resamples)
    own, of_difference = intervals[: len(is_correct)], intervals[len(is_correct) :]
    return {
        name: {
            "corloc": mean_or_none(is_correct[name]),
            "ci95": interval,
            "over_mined": {"value": mean_or_none(over[name]), "ci95": difference},
        }
        for name, interval, difference in zip(is_correct, own, of_difference, strict=True)
    }


def _curve(hits: ThresholdHits) -> dict[str, list[float]]:
    return {
        "threshold": hits.thresholds.tolist(),
        "corloc": hits.hit.mean(axis=0).tolist(),
        **{f"at_{iou}": shares.tolist() for iou, shares in hits.at.items()},
        "boxes_per_pair": hits.boxes.tolist(),
    }


def _hits_at(hit: Bools, position: Ints) -> Bools:
    """(P,) whether each pair's box at its own position is correct; a position of -1 has no box."""
    return (position >= 0) & hit[np.arange(len(hit)), position]


# --- choosing --------------------------------------------------------------------------------------------------------


def best_position(share: Floats) -> int:
    """Return the position of the highest share of (T,), the middle one of equals."""
    best = np.flatnonzero(share >= share.max() - 1e-12)
    return int(best[len(best) // 2])


def assign_folds(image: Ints, seed: int) -> Ints:
    """Assign pairs to folds, all pairs of an image to the same one.

    Args:
        image: (P,) int, the image of each pair.
        seed: Seed of the assignment.

    Returns:
        (P,) int fold numbers; FOLDS of them, or as many as there are images where that is less.
    """
    images, row = np.unique(image, return_inverse=True)
    folds = np.random.default_rng(seed).permutation(len(images)) % min(FOLDS, len(images))
    return folds[row].astype(np.int64)


def class_positions(hit: Bools, category: Ints) -> dict[int, int]:
    """Find the best threshold of each class, shrunk toward the common one.

    Args:
        hit: (P, T) bool.
        category: (P,) int.

    Returns:
        Position of the threshold by class number, for classes that have a pair.
    """
    common = hit.mean(axis=0)
    positions = {}
    for number in np.unique(category):
        own = hit[category == number]
        positions[int(number)] = best_position((own.sum(axis=0) + SHRINKAGE * common) / (len(own) + SHRINKAGE))
    return positions


def _cross_validate(hits: ThresholdHits, fold: Ints) -> tuple[Ints, Ints]:
    """(P,) the position that the other folds choose for each pair: one in common, and one per class.

    A class that the other folds lack takes the common one. -1 where there is no other fold.
    """
    common, per_class = np.full(len(fold), _NO_BOX), np.full(len(fold), _NO_BOX)
    for number in np.unique(fold):
        is_held_out = fold == number
        others = ~is_held_out
        if not others.any():
            continue
        best = best_position(hits.hit[others].mean(axis=0))
        common[is_held_out] = best
        by_class = class_positions(hits.hit[others], hits.category[others])
        per_class[is_held_out] = [by_class.get(int(c), best) for c in hits.category[is_held_out]]
    return common, per_class


def _position_by_fold(chosen: Ints, fold: Ints) -> list[int]:
    return [int(chosen[np.argmax(fold == number)]) for number in np.unique(fold)]
