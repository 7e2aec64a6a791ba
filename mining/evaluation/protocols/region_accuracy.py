"""MaxBoxAcc and MaxBoxAccV2 of the boxes that boxmine mines (see `mining.regions`), cut at each threshold.

With N pairs of a map s and its true boxes B, regions(s, t) cut at the map
threshold t, and an IoU threshold d:

    BoxAcc(t, d)   = |{pairs with max over r in regions(s, t) and g in B of IoU(box of r, g) >= d}| / N
    MaxBoxAcc      = max over t of BoxAcc(t, 0.5), regions: the largest, or the one with the map's highest peak
    MaxBoxAccV2    = mean over d of 0.3, 0.5, 0.7 of (max over t of BoxAcc(t, d)), regions: all

These are the figures of wsoleval.py on the boxes that boxmine mines. The protocol itself reduces maps to 8 bits, counts
sides one pixel longer, gives boxes to holes and to maps without a region, and takes as largest the region whose outline
encloses the largest area. The last matters only where two regions are nearly equal in size: in 22 of 30,090 masks of
the protocol's 120 reference maps, without changing a figure. The sides change MaxBoxAcc there by one map.
"""

from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from mining.evaluation.protocols.box_accuracy import AccuracyAtThresholds, check_boxes
from mining.evaluation.protocols.wsoleval import threshold_grid
from mining.regions.extraction import RegionChoice, regions_at_thresholds


class RegionAccuracy(AccuracyAtThresholds[RegionChoice]):
    """MaxBoxAcc and MaxBoxAccV2 of boxmine's own boxes, map by map, of "largest", "peak" and "all" regions."""

    def __init__(
        self,
        thresholds: ArrayLike | None = None,
        *,
        normalise: Literal["max", "minmax"] = "max",
        min_area_px: int = 4,
    ) -> None:
        """Start counting.

        Args:
            thresholds: (T,) ascending in [0, 1); by default a thousand.
            normalise: As in `boxes_from_map`.
            min_area_px: As in `boxes_from_map`.

        Raises:
            ValueError: The thresholds are not ascending in [0, 1).
        """
        super().__init__(threshold_grid() if thresholds is None else thresholds, ("largest", "peak", "all"))
        self.normalise = normalise
        self.min_area_px = min_area_px

    def add(self, activation: ArrayLike, true_boxes: ArrayLike, image_size: tuple[float, float]) -> None:
        """Count one image, or one pair of an image and a class.

        Args:
            activation: (H, W) float map, any range; its pixels are stretched over the image.
            true_boxes: (m, 4) xyxy in pixels of the image, half-open, m >= 1; no box hits one without area.
            image_size: Width and height of the image in pixels.

        Raises:
            MapError: The map cannot be used; nothing is counted.
            ScoringError: The boxes or the size cannot be used; nothing is counted.
        """
        truth = check_boxes(true_boxes, image_size)
        found = regions_at_thresholds(
            activation, self.thresholds, normalise=self.normalise, min_area_px=self.min_area_px
        )  # fmt: skip
        height, width = np.shape(activation)
        self.count(found.best_iou(truth * np.tile([width / image_size[0], height / image_size[1]], 2)))

    def max_box_acc(self, regions: Literal["largest", "peak"] = "largest") -> float:
        """Return MaxBoxAcc in [0, 1]: IoU 0.5, one region per map."""
        return self._best_at_half(regions)

    def max_box_acc_v2(self) -> float:
        """Return MaxBoxAccV2 in [0, 1]: all regions, mean over IoU 0.3, 0.5 and 0.7."""
        return self._mean_of_best("all")
