"""Features of the calibration model: signals, transformed, standardised and split at their lower quartile."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from mining.arrays import Floats
from mining.errors import InputError, did_you_mean
from mining.quality.box_arrays import column_floats

KNOT_QUANTILE = 0.25
MAX_STANDARDISED = 4.0
SCORE_WEIGHT = 6.0  # the penalty on the score's weight is 36 times as weak as on the others'


def logit(values: Floats) -> Floats:
    """Return log(v / (1 - v)) of values in 0-1, which are kept off 0 and 1 by 0.001."""
    clipped = np.clip(values, 1e-3, 1 - 1e-3)
    return np.log(clipped / (1 - clipped))


def _log(values: Floats) -> Floats:
    return np.log(np.maximum(values, 1e-6))


def _same(values: Floats) -> Floats:
    return values


@dataclass(frozen=True)
class Feature:
    """One feature: a column and its transformation; `is_split` adds the part below the lower quartile."""

    name: str
    column: str
    transform: Callable[[Floats], Floats] = _same
    is_split: bool = True


FEATURES = (
    Feature("score", "score", logit),
    Feature("mean_probability", "mean_probability"),
    Feature("cut_agreement", "cut_agreement"),
    Feature("map_agreement", "map_agreement"),
    Feature("threshold_stability", "threshold_stability"),
    Feature("tight_iou", "tight_iou"),
    Feature("loose_iou", "loose_iou"),
    Feature("class_score", "class_score", logit),
    Feature("class_margin", "class_margin"),
    Feature("area_share", "area_share", _log),
    Feature("size_deviation", "size_deviation"),
    Feature("abs_size_deviation", "size_deviation", np.abs),
    Feature("abs_aspect_deviation", "aspect_deviation", np.abs),
    Feature("other_class_iou", "other_class_iou"),
    Feature("regions_above", "regions_above", np.log1p),
    Feature("contrast", "contrast"),
    Feature("run_agreement", "run_agreement"),
    Feature("border_contact", "border_contact", is_split=False),
    Feature("class_boxes", "class_boxes", _log, is_split=False),
    Feature("is_not_best", "class_rank", lambda rank: (rank > 1).astype(np.float64), is_split=False),
    Feature("is_part", "is_part", is_split=False),
    Feature("is_off_curve", "threshold_stability", lambda iou: np.isnan(iou).astype(np.float64), is_split=False),
)
USED_COLUMNS = tuple(dict.fromkeys(feature.column for feature in FEATURES))


def raw_features(signals: pa.Table) -> Floats:
    """Compute the (n, F) features of FEATURES, before they are standardised; NaN where a signal is null.

    Raises:
        InputError: A column is missing.
    """
    missing = [name for name in USED_COLUMNS if name not in signals.column_names]
    if missing:
        raise InputError(
            f"The table of signals has no column {missing[0]!r} ({did_you_mean(missing[0], signals.column_names)}). "
            "Read it with mining.quality.table.read_boxes_with_quality."
        )
    columns = {name: column_floats(signals, name) for name in USED_COLUMNS}
    return np.stack([feature.transform(columns[feature.column]) for feature in FEATURES], axis=1)


@dataclass(frozen=True)
class Scaling:
    """How features are standardised, by the median and standard deviation of the boxes that were calibrated on.

    Attributes:
        centre: (F,) medians.
        scale: (F,) standard deviations; 1 for a constant feature.
        knot: (F,) lower quartiles of the standardised features.
    """

    centre: Floats
    scale: Floats
    knot: Floats

    @classmethod
    def fit(cls, raw: Floats) -> "Scaling":
        """Measure (n, F) raw features; one without any value is constant."""
        known = np.where(np.isnan(raw).all(axis=0), 0.0, raw)
        centre, deviation = np.nanmedian(known, axis=0), np.nanstd(known, axis=0)
        scale = np.where(deviation > 1e-6, deviation, 1.0)
        return cls(centre, scale, np.nanquantile((known - centre) / scale, KNOT_QUANTILE, axis=0))

    def apply(self, raw: Floats) -> Floats:
        """Return the (n, D) design: standardised features, and the split ones once more, below their quartile."""
        z = np.clip((raw - self.centre) / self.scale, -MAX_STANDARDISED, MAX_STANDARDISED)
        z = np.nan_to_num(z, nan=0.0)  # a null counts as usual
        is_split = np.array([feature.is_split for feature in FEATURES])
        below = np.minimum(z - self.knot, 0)[:, is_split]
        weight = np.where([feature.name == "score" for feature in FEATURES], SCORE_WEIGHT, 1.0)
        return np.concatenate([z * weight, below], axis=1)

    def to_json(self) -> dict[str, list[float]]:
        """Return the three arrays as lists."""
        return {name: getattr(self, name).tolist() for name in ("centre", "scale", "knot")}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> "Scaling":
        """Read what `to_json` returned; ValueError for arrays of another length or values that are not finite."""
        arrays = [np.array(content[name], np.float64) for name in ("centre", "scale", "knot")]
        if any(array.shape != (len(FEATURES),) or not np.isfinite(array).all() for array in arrays):
            raise ValueError("its scaling is not that of this version's features")
        return cls(*arrays)
