"""PxAP of the WSOL evaluation protocol (Choe et al. 2020), which no command offers: it needs masks as ground truth.

PxAP = sum over thresholds of precision(t) * (recall(t) - recall(the next higher t)), over all pixels
"""

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from mining.errors import ScoringError
from mining.evaluation.protocols.wsoleval import SIDE_PX, Grey, resize_map, threshold_grid
from mining.regions.extraction import validate_thresholds

BACKGROUND, OBJECT, IGNORED = 0, 1, 255


def protocol_mask(objects: Sequence[ArrayLike], ignored: ArrayLike) -> Grey:
    """Build the mask that PxAP compares a map with.

    Args:
        objects: Masks (H, W) of any size, one per instance, nonzero on the object.
        ignored: (H, W), nonzero on pixels that do not count.

    Returns:
        (224, 224) uint8: 0 background, 1 object, 255 ignored; objects take precedence over ignored.

    Raises:
        ScoringError: There is no object.
    """
    if not len(objects):
        raise ScoringError("There is no object's mask; expected at least one.")
    is_object = np.any([_mask_at_protocol_size(one) for one in objects], axis=0)
    outside = np.where(_mask_at_protocol_size(ignored), IGNORED, BACKGROUND)
    return np.where(is_object, OBJECT, outside).astype(np.uint8)


class PixelPrecision:
    """Counts, map by map, the scores of object and background pixels; PxAP at the end.

    Attributes:
        thresholds: (T,) float64 ascending in [0, 1).
        object_pixels: (T + 2,) int64, pixels of objects with scores from each threshold to the next, then those of 1,
            then an empty bin that the protocol has.
        background_pixels: The same of the background.
    """

    def __init__(self, thresholds: ArrayLike | None = None) -> None:
        """Start counting.

        Args:
            thresholds: (T,) ascending in [0, 1); by default the protocol's thousand.

        Raises:
            ValueError: The thresholds are not ascending in [0, 1).
        """
        self.thresholds = validate_thresholds(threshold_grid() if thresholds is None else thresholds)
        self.object_pixels = np.zeros(len(self.thresholds) + 2, np.int64)
        self.background_pixels = np.zeros_like(self.object_pixels)

    def add(self, activation: ArrayLike, mask: ArrayLike) -> None:
        """Count the pixels of one image.

        Args:
            activation: (H, W) float map, any range and size.
            mask: (224, 224) as `protocol_mask` returns it.

        Raises:
            MapError: The map cannot be used; nothing is counted.
            ScoringError: The mask cannot be used; nothing is counted.
        """
        truth = np.asarray(mask)
        if truth.shape != (SIDE_PX, SIDE_PX):
            raise ScoringError(f"The mask has shape {truth.shape}; expected {(SIDE_PX, SIDE_PX)} (protocol_mask).")
        score = resize_map(activation)
        edges = np.append(self.thresholds, [1, 2, 3])
        self.object_pixels += np.histogram(score[truth == OBJECT], edges)[0]
        self.background_pixels += np.histogram(score[truth == BACKGROUND], edges)[0]

    def px_ap(self) -> float:
        """Return PxAP in [0, 1].

        Raises:
            ScoringError: No object pixel has been counted.
        """
        if not self.object_pixels.any():
            raise ScoringError("No pixel of an object was added, so there is no PxAP; add a mask with objects.")
        found, wrong = (pixels[::-1].cumsum() for pixels in (self.object_pixels, self.background_pixels))
        precision = found / np.maximum(found + wrong, 1)  # 0 / 0 is 0: above every score nothing is recalled either
        recall = found / found[-1]
        return float((precision[1:] * np.diff(recall)).sum())


def _mask_at_protocol_size(mask: ArrayLike) -> NDArray[np.bool_]:
    nonzero = (np.asarray(mask) != 0).astype(np.uint8)
    return cv2.resize(nonzero, (SIDE_PX, SIDE_PX), interpolation=cv2.INTER_NEAREST) > 0
