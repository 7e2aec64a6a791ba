"""How well probabilities are calibrated: reliability diagram, ECE, LaECE, and the ECE that chance alone gives."""

from typing import TypedDict

import numpy as np

from mining.arrays import Bools, Floats, Ints

BINS = 10
LAECE_BINS = 25


class ReliabilityBin(TypedDict):
    """One bin of a reliability diagram: its edges, number of boxes, mean prediction and mean outcome."""

    low: float
    high: float
    boxes: int
    predicted: float
    observed: float


def reliability_bins(predicted: Floats, observed: Floats, bins: int = BINS) -> list[ReliabilityBin]:
    """Compare predictions with outcomes in bins of equal width.

    Args:
        predicted: (n,) in [0, 1].
        observed: (n,) outcomes in [0, 1]: correct or not, or IoU.
        bins: Number of bins.

    Returns:
        The bins that hold boxes, lowest first.
    """
    place = _bin_of(predicted, bins)
    counts = np.bincount(place, minlength=bins)
    means = [np.bincount(place, values, bins) / np.maximum(counts, 1) for values in (predicted, observed)]
    return [
        {
            "low": b / bins,
            "high": (b + 1) / bins,
            "boxes": int(counts[b]),
            "predicted": float(means[0][b]),
            "observed": float(means[1][b]),
        }
        for b in np.flatnonzero(counts).tolist()
    ]


def calibration_error(predicted: Floats, observed: Floats, bins: int = BINS) -> float:
    """Expected calibration error: mean over boxes of |mean prediction - mean outcome| of the box's bin; NaN for none.

    Reference:
        Guo et al. 2017, eq. 3.
    """
    if not len(predicted):
        return float("nan")
    gap = np.bincount(_bin_of(predicted, bins), predicted - observed, bins)
    return float(np.abs(gap).sum() / len(predicted))


def error_by_chance(predicted: Floats, *, seed: int = 0, draws: int = 200, bins: int = BINS) -> float:
    """Mean ECE of outcomes that are drawn with exactly the predicted probabilities: what a perfect calibration has.

    The ECE of few boxes is above 0 by chance alone; this is by how much.
    """
    if not len(predicted):
        return float("nan")
    rng = np.random.default_rng(seed)
    place = _bin_of(predicted, bins)
    gaps = [np.bincount(place, predicted - (rng.random(len(predicted)) < predicted), bins) for _ in range(draws)]
    return float(np.abs(gaps).sum(axis=1).mean() / len(predicted))


def localization_error(expected_iou: Floats, iou: Floats, category: Ints, bins: int = LAECE_BINS) -> float:
    """Localization-aware calibration error of expected IoUs: their ECE against the IoU, as a mean over classes.

    Args:
        expected_iou: (n,) predictions in [0, 1].
        iou: (n,) IoU with the best true box of the class; 0 for none.
        category: (n,) class of each box.
        bins: Number of bins of equal width.

    Returns:
        NaN where there are no boxes.

    Reference:
        Kuzucu et al. 2024 (LaECE_0: with an IoU threshold of 0, precision times mean IoU of the true positives is the
        mean IoU); Oksuz et al. 2023.
    """
    errors = [
        calibration_error(expected_iou[category == one], iou[category == one], bins) for one in np.unique(category)
    ]
    return float(np.mean(errors)) if errors else float("nan")


def ranking_accuracy(values: Floats, is_correct: Bools) -> float | None:
    """AUROC of right against wrong boxes: the chance that a right one has the higher value; None for one kind only."""
    from sklearn.metrics import roc_auc_score

    if is_correct.all() or not is_correct.any():
        return None
    return float(roc_auc_score(is_correct, values))


def _bin_of(predicted: Floats, bins: int) -> Ints:
    return np.clip((predicted * bins).astype(np.int64), 0, bins - 1)
