"""The box of a map at every threshold: what another threshold would have mined, kept beside what was mined.

A run cuts its boxes at one threshold. Which one is right depends on the photos and is known only once there is a truth;
so a run keeps, for each image and class, the box that CorLoc looks at, the best-scored one of those that pass the run's
filters, at each of 49 thresholds, and the thresholds that the map by itself suggests:

    Otsu      parts the map's 256 grey levels so that the variance between the two sides is largest (Otsu 1979)
    entropy   so that the entropies of the two sides add up to most (Kapur, Sahoo & Wong 1985)
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from mining.annotations.schema import CURVE_THRESHOLDS
from mining.boxes import Boxes
from mining.config import MapThreshold
from mining.regions import FloatMap, normalised
from mining.scoring.sweep import regions_at_thresholds
from mining.scoring.thresholds import nearest_positions, stable_positions

_GREYS = 256


@dataclass(frozen=True)
class Curve:
    """What one map gives at T thresholds.

    map_size: width and height, px. xyxy: (T, 4) int64 map pixels, half-open; zeros where there is no box.
    boxes: (T,) int64, how many pass the filters. otsu, entropy: thresholds in 0-1, 0 for a map that says nothing.
    """

    map_size: tuple[int, int]
    xyxy: NDArray[np.int64]
    boxes: NDArray[np.int64]
    otsu: float
    entropy: float


def curve_of(
    activation: FloatMap, *, normalise: Literal["max", "minmax"], passes: Callable[[Boxes], NDArray[np.bool_]]
) -> Curve:
    """The best-scored box of a map at each of CURVE_THRESHOLDS.

    activation: (H, W) float32. normalise: as in `boxes_from_map`.
    passes: which of n boxes in map pixels, scored by their peaks, are let through, (n,).
    Raises MapError when the map holds NaN or infinity.
    """
    found = regions_at_thresholds(activation, CURVE_THRESHOLDS, normalise=normalise)
    peak = found.peak
    boxes = Boxes(found.xyxy.astype(np.float32), peak, peak, found.mean_activation, np.ones(len(peak), np.int32))
    passing = passes(boxes)
    rows = found.first_listed(passing)
    level = normalised(activation, normalise)
    height, width = activation.shape
    return Curve(
        (width, height),
        np.append(found.xyxy, np.zeros((1, 4), np.int64), axis=0)[rows],
        found.counts(passing),
        *((0.0, 0.0) if level is None else (otsu_threshold(level), entropy_threshold(level))),
    )


def otsu_threshold(level: FloatMap) -> float:
    """The threshold after Otsu of a normalised map (H, W), in 0-1; the object's pixels reach it."""
    greys = (level * (_GREYS - 1)).astype(np.uint8)
    below, _ = cv2.threshold(greys, 0, _GREYS - 1, cv2.THRESH_OTSU)
    return float((below + 1) / (_GREYS - 1))


def entropy_threshold(level: FloatMap) -> float:
    """The threshold after Kapur, Sahoo and Wong of a normalised map (H, W), in 0-1; the object's pixels reach it.

    Of equal ones the lowest; 0 for a map of one grey level.
    """
    greys = (level * (_GREYS - 1)).astype(np.uint8)
    share = np.bincount(greys.ravel(), minlength=_GREYS) / greys.size
    below = share.cumsum()[:-1]  # of the levels 0 ... t - 1, for t = 1 ... 255
    information = np.where(share > 0, -share * np.log(np.where(share > 0, share, 1)), 0).cumsum()
    parts = (below > 0) & (below < 1 - 1e-12)
    if not parts.any():
        return 0.0
    under, over = below[parts], 1 - below[parts]
    told = information[:-1][parts]
    entropy = np.log(under) + told / under + np.log(over) + (information[-1] - told) / over
    return float((np.flatnonzero(parts)[entropy.argmax()] + 1) / (_GREYS - 1))


def own_threshold(curve: Curve, how: MapThreshold, stretch: tuple[float, float]) -> float:
    """The threshold that the map tells by itself, the nearest of CURVE_THRESHOLDS; 1 where it tells none.

    stretch: image pixels a map pixel, across and down.
    """
    grid = np.array(CURVE_THRESHOLDS)
    if how == "stability":
        xyxy = (curve.xyxy * np.array([*stretch, *stretch])).astype(np.float32)
        position = int(stable_positions(xyxy[None])[0])
    else:
        position = int(nearest_positions(np.array([getattr(curve, how)]), grid)[0])
    return float(grid[position]) if position >= 0 else 1.0


def curve_row(curve: Curve, *, image_id: int, category_id: int, width: int, height: int) -> dict[str, Any]:
    """A row of CURVE_SCHEMA."""
    return {
        "image_id": image_id, "category_id": category_id, "width": width, "height": height,
        "map_width": curve.map_size[0], "map_height": curve.map_size[1], "otsu": curve.otsu, "entropy": curve.entropy,
        "xyxy": curve.xyxy.ravel().tolist(), "boxes": np.minimum(curve.boxes, 255).tolist(),
    }  # fmt: skip
