"""NL-CCAM's box and figures as its released code gives them (Yangseung/NL-CCAM), where it differs from us.

From the combined map of an image to its one box, at 224 x 224 whatever shape the photo has:

1. The map less its minimum is resized, bilinearly, and values up to the threshold's share of the maximum become 0.
2. The mask is what is above the mean of the result: a second threshold, which is lower the more the first one cuts, so
   that a higher threshold can give a larger box.
3. Of the 4-connected regions the one with the largest bounding box gives the box, which ends behind its last pixel.
4. The box is brought to the photo's size and rounded to whole pixels.

and with IoU+ counting sides as x1 - x0 + 1 although x1 is behind the last pixel, of images with one label and one box:

    GT-known accuracy   = share of images where the box of the label has IoU+ >= 0.5
    Top-K class. acc.   = share of images whose label is among the K best classes
    Top-K loc. acc.     = share of images where both hold

The released code draws the same map for every class asked for where the combination is a polynomial, so that its
GT-known box is its Top-1 box; that is the localizer's matter (mining.localizers.nlccam, first="predicted").
"""

from typing import Any

import cv2
import numpy as np
from numpy.typing import ArrayLike

from mining.arrays import Floats, Ints
from mining.boxes.iou import area
from mining.evaluation.boxes import Detections, TruthBoxes
from mining.evaluation.metrics.hits import IOU_THRESHOLD
from mining.evaluation.metrics.localization import localization_scores
from tests.oracles.protocols.maps import components, finite_map
from tests.oracles.protocols.plus_one import extend_by_one_pixel

DEFINITION = (
    "NL-CCAM's released code: sides of boxes count with 1 added, IoU at least iou_threshold. gt_known_loc: share of "
    "images where the box of the label is on its true box; topK_cls: where the label is among the K best classes; "
    "topK_loc: both. error: 1 - accuracy."
)
SIDE_PX = 224
THRESHOLD = 0.12


def box_of_map(activation: ArrayLike, threshold: float = THRESHOLD) -> Ints | None:
    """(4,) x0, y0, x1, y1 in the pixels of 224 x 224, half-open; None for a constant map, where the released code raises.

    activation: (H, W) float, any range and size. threshold: share of the map's range, in [0, 1).
    Raises MapError when it is no map or holds NaN or infinity.
    """
    level = finite_map(activation)
    large = cv2.resize(level - level.min(), (SIDE_PX, SIDE_PX))
    return box_of_largest_component(np.where(large > large.max() * threshold, large, 0))


def box_of_largest_component(activation: ArrayLike) -> Ints | None:
    """(4,) the largest box around a 4-connected region above the map's mean, half-open; None for a constant map.

    activation: (H, W) float; of equal boxes the region that begins first, row by row. Raises what `box_of_map` raises.
    """
    level = finite_map(activation)
    boxes = components(level > level.mean()).xyxy
    return boxes[area(boxes.astype(np.float64)).argmax()] if len(boxes) else None


def boxes_on_image(xyxy: ArrayLike, size: tuple[float, float]) -> Ints:
    """(n, 4) boxes of the 224 x 224 map in a photo of `size` (width, height), to the nearest whole pixel."""
    return _rounded(xyxy, np.asarray(size, np.float64) / SIDE_PX)


def boxes_on_map(xyxy: ArrayLike, size: tuple[float, float]) -> Ints:
    """(n, 4) boxes of a photo of `size` (width, height) in the 224 x 224 map, to the nearest whole pixel."""
    return _rounded(xyxy, SIDE_PX / np.trunc(np.asarray(size, np.float64)))


def nlccam_scores(
    truth: TruthBoxes, predicted: Detections, ranked: ArrayLike, *, iou_threshold: float = IOU_THRESHOLD
) -> dict[str, Any]:
    """The figures, as scores.json holds them: for each name `accuracy` and `error` in [0, 1].

    truth, predicted: in pixels of the photo, corners as the protocol has them; it adds 1 to their sides.
    ranked: (N, K) int, the classes of each image, best first. Images with several labels or boxes count as
    `localization_scores` has it; the released code knows none. None where the truth has no countable box.
    Raises what `localization_scores` raises.
    """
    figures = localization_scores(
        extend_by_one_pixel(truth), extend_by_one_pixel(predicted), ranked, iou_threshold=iou_threshold
    )
    return {**figures, "definition": DEFINITION}


def _rounded(xyxy: ArrayLike, scale: Floats) -> Ints:
    # numpy rounds halves to the even neighbour, and the factor is rounded before it is used, as the protocol has it
    return np.rint(np.asarray(xyxy, np.float64).reshape(-1, 4) * np.tile(scale, 2)).astype(np.int64)
