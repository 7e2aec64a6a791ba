"""Which threshold? What a run would have given at each, and what that is worth without looking at the truth twice.

CorLoc of the box that a run's maps give at each of T thresholds (curves.parquet), over the pairs and with the rule of
`corloc`: the best-scored box of the class reaches IoU 0.5 with any countable true box of the pair. From it:

    oracle      the threshold that is best on all that is scored. It has seen the answers: an upper bound, no promise
    chosen      the images are parted into folds; each fold is cut at the threshold that is best on the others, and no
                image has a say in how it is cut itself. `threshold` is the best of all images, to be used on new ones
    per class   the same with a threshold for each class c: the best of (H_c(t) + k M(t)) / (n_c + k), with H_c the hits
                of the class, n_c its pairs, M the mean of all pairs and k = 25: few pairs say little against all
    stability   no truth: of each map the middle of the longest range of thresholds over which the box stays the same,
                each one's IoU with the next being 0.95 at least
    otsu, entropy   no truth: of each map the threshold that its grey levels tell (mining.regions.threshold_curves)

Intervals are percentile bootstraps over images; those of `chosen` hold the folds' thresholds fixed.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mining.arrays import Bools, Floats, Ints
from mining.boxes.iou import paired_iou
from mining.evaluation.boxes import TruthBoxes, pair_codes
from mining.evaluation.metrics.corloc import IOU_THRESHOLD, bootstrap_means
from mining.evaluation.metrics.rules import mean_of
from mining.evaluation.run_reading import CurveBlock
from mining.regions.map_thresholds import nearest_positions, stable_positions

DEFINITION = (
    "CorLoc at IoU >= 0.5 of the box that the maps give at a threshold. oracle: the threshold that is best on all "
    "scored pairs, which has seen the answers. chosen: cross-validated over images, each fold cut at the threshold "
    "that is best on the others. per_class: the same with a threshold a class, shrunk toward the common "
    "one. stability, otsu, entropy: a threshold a map, told by the map without any truth. mined: the run's own boxes. "
    "over_mined: difference to these on the same pairs. ci95: percentile bootstrap over images."
)
FOLDS = 5
SHRINKAGE = 25
_NO_BOX = -1


@dataclass(frozen=True)
class ThresholdHits:
    """What each pair of the truth says to each threshold, P pairs, T thresholds.

    thresholds: (T,) ascending. image, category: (P,) int, ascending by image, then by class.
    hit: (P, T) bool. at: (T,) shares of pairs by IoU, 0.3 and 0.7. boxes: (T,) mean number a pair.
    by_map: for stability, otsu and entropy (P,) int, the position of the map's own threshold; -1 without a map.
    """

    thresholds: Floats
    image: Ints
    category: Ints
    hit: Bools
    at: dict[float, Floats]
    boxes: Floats
    by_map: dict[str, Ints]


def threshold_hits(truth: TruthBoxes, thresholds: Floats, blocks: Iterable[CurveBlock]) -> ThresholdHits:
    """Compare the boxes of all thresholds (T,) with the truth; a pair without a curve is missed at each."""
    pairs = _TruthPairs(truth)
    total = len(pairs.codes)
    hit = np.zeros((total, len(thresholds)), bool)
    near = {iou: np.zeros(len(thresholds)) for iou in (0.3, 0.7)}
    boxes = np.zeros(len(thresholds))
    by_map = {name: np.full(total, _NO_BOX) for name in ("stability", "otsu", "entropy")}
    for block in blocks:
        rows, place = pairs.places(block.image, block.category)
        xyxy = block.xyxy[rows]
        best = pairs.best_iou(place, xyxy)
        hit[place] = best >= IOU_THRESHOLD
        for iou, shares in near.items():
            shares += (best >= iou).sum(axis=0) / total
        boxes += block.boxes[rows].sum(axis=0) / total
        by_map["stability"][place] = stable_positions(xyxy)
        by_map["otsu"][place] = nearest_positions(block.otsu[rows], thresholds)
        by_map["entropy"][place] = nearest_positions(block.entropy[rows], thresholds)
    image, category = np.divmod(pairs.codes, pairs.classes)
    return ThresholdHits(thresholds, image, category, hit, near, boxes, by_map)


class _TruthPairs:
    """The pairs of image and class that the truth has a countable box of, with their boxes one after the other."""

    def __init__(self, truth: TruthBoxes) -> None:
        countable = truth.where(truth.is_countable)
        self.classes = 1 + int(countable.category.max(initial=0))
        code = pair_codes(countable.image, countable.category, self.classes)
        order = np.argsort(code, kind="stable")
        self.xyxy = countable.xyxy[order]
        self.codes, self.first, self.count = np.unique(code[order], return_index=True, return_counts=True)

    def places(self, image: Ints, category: Ints) -> tuple[Ints, Ints]:
        """Of curves (p,) the rows whose pair the truth has, and the positions of these pairs."""
        code = np.where(category < self.classes, pair_codes(image, category, self.classes), -1)
        place = np.searchsorted(self.codes, code)
        rows = np.flatnonzero(np.append(self.codes, -2)[place] == code)
        return rows, place[rows]

    def best_iou(self, place: Ints, xyxy: NDArray[np.float32]) -> Floats:
        """(p, T) the best IoU of each pair's box at each threshold with any true box of the pair."""
        best = np.zeros(xyxy.shape[:2])
        for step in range(int(self.count[place].max(initial=0))):
            rows = np.flatnonzero(step < self.count[place])
            true_box = self.xyxy[self.first[place[rows]] + step]
            best[rows] = np.maximum(best[rows], paired_iou(xyxy[rows], true_box[:, None]))
        return best


def threshold_scores(
    verdicts: ThresholdHits,
    mined: Bools,
    classes: Sequence[str],
    *,
    mined_at: float | None,
    seed: int,
    resamples: int,
) -> dict[str, Any] | None:
    """The `thresholds` part of scores.json; None where the truth has no countable box.

    mined: (P,) whether the run's own box of each pair is right. mined_at: the threshold it was cut at, where known.
    classes: names, by class number.
    """
    if not len(verdicts.hit):
        return None
    grid: list[float] = verdicts.thresholds.tolist()
    best = best_position(verdicts.hit.mean(axis=0))
    fold = folds_of(verdicts.image, seed)
    chosen, own = _cross_validated(verdicts, fold)
    position = {"oracle": np.full(len(mined), best), "chosen": chosen, "per_class": own, **verdicts.by_map}
    right = {"mined": mined} | {name: _right(verdicts.hit, at) for name, at in position.items()}
    figures = _figures(verdicts.image, right, seed=seed, resamples=resamples)
    of_class = class_positions(verdicts.hit, verdicts.category)
    told: dict[str, dict[str, Any]] = {
        "mined": {"threshold": mined_at},
        "oracle": {"threshold": grid[best]},
        "chosen": {"threshold": grid[best], "fold_thresholds": [grid[i] for i in _of_folds(chosen, fold)]},
        "per_class": {"thresholds": {classes[c]: grid[i] for c, i in of_class.items()}},
        **{name: {"mean_threshold": mean_of(verdicts.thresholds[at[at >= 0]])} for name, at in verdicts.by_map.items()},
    }
    found = {name: {**told[name], **figure} for name, figure in figures.items()}
    if len(np.unique(fold)) < 2:  # of a single image nothing can be held out
        found |= {name: {"corloc": None, "ci95": None} for name in ("chosen", "per_class")}
    return {"definition": DEFINITION, "pairs": len(mined), **found, "curve": _curve(verdicts)}


def _figures(image: Ints, right: dict[str, Bools], *, seed: int, resamples: int) -> dict[str, dict[str, Any]]:
    """CorLoc of each way to choose, (P,) verdicts, and what it has over the boxes that were mined."""
    over = {name: np.subtract(verdict, right["mined"], dtype=np.float64) for name, verdict in right.items()}
    intervals = bootstrap_means(image, [*right.values(), *over.values()], seed=seed, resamples=resamples)
    own, of_difference = intervals[: len(right)], intervals[len(right) :]
    return {
        name: {
            "corloc": mean_of(right[name]),
            "ci95": interval,
            "over_mined": {"value": mean_of(over[name]), "ci95": difference},
        }
        for name, interval, difference in zip(right, own, of_difference, strict=True)
    }


def _curve(verdicts: ThresholdHits) -> dict[str, list[float]]:
    return {
        "threshold": verdicts.thresholds.tolist(),
        "corloc": verdicts.hit.mean(axis=0).tolist(),
        **{f"at_{iou}": shares.tolist() for iou, shares in verdicts.at.items()},
        "boxes_per_pair": verdicts.boxes.tolist(),
    }


def _right(hit: Bools, position: Ints) -> Bools:
    """(P,) whether each pair's box at its own position is right; a position of -1 has no box."""
    return (position >= 0) & hit[np.arange(len(hit)), position]


# --- choosing --------------------------------------------------------------------------------------------------------


def best_position(share: Floats) -> int:
    """The position of the highest share, (T,); of equal ones the middle."""
    best = np.flatnonzero(share >= share.max() - 1e-12)
    return int(best[len(best) // 2])


def folds_of(image: Ints, seed: int) -> Ints:
    """(P,) the fold of each pair, all pairs of an image in one; FOLDS of them, or as many as there are images."""
    images, row = np.unique(image, return_inverse=True)
    drawn = np.random.default_rng(seed).permutation(len(images)) % min(FOLDS, len(images))
    return drawn[row].astype(np.int64)


def class_positions(hit: Bools, category: Ints) -> dict[int, int]:
    """The best threshold of each class that has a pair, shrunk toward the common one."""
    common = hit.mean(axis=0)
    found = {}
    for one in np.unique(category):
        own = hit[category == one]
        found[int(one)] = best_position((own.sum(axis=0) + SHRINKAGE * common) / (len(own) + SHRINKAGE))
    return found


def _cross_validated(verdicts: ThresholdHits, fold: Ints) -> tuple[Ints, Ints]:
    """(P,) the positions at which each pair is cut by what the other folds say: in common, and by class.

    A class that the other folds lack takes the common one. -1 where there is no other fold.
    """
    chosen, own = np.full(len(fold), _NO_BOX), np.full(len(fold), _NO_BOX)
    for one in np.unique(fold):
        held_out = fold == one
        others = ~held_out
        if not others.any():
            continue
        common = best_position(verdicts.hit[others].mean(axis=0))
        chosen[held_out] = common
        of_classes = class_positions(verdicts.hit[others], verdicts.category[others])
        own[held_out] = [of_classes.get(int(c), common) for c in verdicts.category[held_out]]
    return chosen, own


def _of_folds(chosen: Ints, fold: Ints) -> list[int]:
    return [int(chosen[np.argmax(fold == one)]) for one in np.unique(fold)]


# --- thresholds of a map without any truth ---------------------------------------------------------------------------
