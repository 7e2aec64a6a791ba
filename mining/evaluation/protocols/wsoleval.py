"""MaxBoxAcc and MaxBoxAccV2: the quality of activation maps, independent of the threshold of their boxes.

The protocol of Choe et al., "Evaluating Weakly Supervised Object Localization Methods Right" (CVPR 2020), and its
successor's MaxBoxAccV2, figure for figure as their released code gives them (clovaai/wsolevaluation). With N pairs of
a map s and its true boxes B, boxes(s, t) cut at the map threshold t, and an IoU threshold d:

    BoxAcc(t, d)   = |{pairs with max over b in boxes(s, t) and g in B of IoU(b, g) >= d}| / N
    MaxBoxAcc      = max over t of BoxAcc(t, 0.5), boxes: the one of the largest contour
    MaxBoxAccV2    = mean over d of 0.3, 0.5, 0.7 of (max over t of BoxAcc(t, d)), boxes: one for each contour

Where that code differs from the rest of boxmine it is followed, here only: maps are reduced to 8 bits, a box ends one
pixel behind its region yet IoU counts sides with 1 added, holes have boxes of their own, the largest contour is the
one whose polygon through pixel centres has the largest area, and a map without a region has the box 0, 0, 0, 0.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from mining.arrays import Floats, Ints
from mining.boxes.iou import iou_matrix
from mining.errors import MapError
from mining.evaluation.protocols.box_accuracy import AccuracyAtThresholds, check_boxes
from mining.regions.extraction import validate_map

Contours = Literal["largest", "all"]
Grey = NDArray[np.uint8]
_Found = Sequence[NDArray[np.int32]]

SIDE_PX = 224
_NO_REGION = (0, 0, 0, 0)
_PLATEAU_PX = 4


def threshold_grid(step: float = 0.001) -> Floats:
    """Return (T,) map thresholds from 0 to below 1; 0.001 is the protocol's step."""
    return np.arange(0, 1, step)


# --- maps ------------------------------------------------------------------------------------------------------------


def normalise_map(activation: ArrayLike) -> NDArray[np.floating]:
    """Scale a map to 0-1 by its own range.

    Args:
        activation: (H, W) float map, any range; not modified.

    Returns:
        A map of the same shape and dtype; all zeros where the map is constant or holds NaN.

    Raises:
        MapError: It is not an (H, W) float map, or its range is infinite.
    """
    level = validate_map(activation)
    lowest, highest = level.min(), level.max()
    if np.isnan(highest) or lowest == highest:
        return np.zeros_like(level)
    with np.errstate(over="ignore"):
        span = highest - lowest
    if not np.isfinite(span):
        raise MapError(f"The activation map reaches from {lowest} to {highest}; expected a finite range.")
    return (level - lowest) / span


def resize_map(activation: ArrayLike) -> Floats:
    """Resize a map to 224 x 224, then scale it to 0-1.

    Args:
        activation: (H, W) float map, any range.

    Returns:
        (224, 224) float64: bicubic in double precision, normalised afterwards, because the interpolation overshoots.

    Raises:
        MapError: As for `normalise_map`, and for a map that holds infinity.
    """
    level = validate_map(activation).astype(np.float64)
    if np.isinf(level).any():
        raise MapError("The activation map holds infinity; the model's weights are broken or overflowed.")
    resized = cv2.resize(level, (SIDE_PX, SIDE_PX), interpolation=cv2.INTER_CUBIC)
    return normalise_map(resized).astype(np.float64, copy=False)


def grey_levels(level: NDArray[np.floating]) -> Grey:
    """Convert a map in 0-1 to (H, W) uint8, truncated rather than rounded: only the maximum becomes 255."""
    return (level * 255).astype(np.uint8)


# --- boxes -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class BoxesAtThresholds:
    """The boxes of one map at T thresholds, which give S different masks with n contours in all.

    Attributes:
        xyxy: (n, 4) int64, mask by mask, each in OpenCV's order of contours; x1 and y1 lie one pixel behind the
            region, or on the last pixel of the map where it touches that border.
        first: (S,) int64, first row of each mask's boxes.
        largest: (S,) int64, row of each mask's largest contour, the first of equals.
        mask: (T,) int64, mask of each threshold.
    """

    xyxy: Ints
    first: Ints
    largest: Ints
    mask: Ints

    def of_largest_contour(self) -> Ints:
        """Return (T, 4) boxes, one per threshold."""
        return self.xyxy[self.largest][self.mask]

    def of_all_contours(self) -> list[Ints]:
        """Return T arrays (k, 4), the k >= 1 boxes of each threshold."""
        of_mask = np.split(self.xyxy, self.first[1:])
        return [of_mask[mask] for mask in self.mask]

    def best_iou(self, true_boxes: ArrayLike) -> dict[Contours, Floats]:
        """Return (T,) the best IoU at each threshold with any of (m, 4) true boxes, sides with 1 added.

        Given for the box of the largest contour, and for the best box of all contours.
        """
        best = iou_plus_one(self.xyxy, true_boxes).max(axis=1)
        best_of_mask = np.maximum.reduceat(best, self.first)
        return {"largest": best[self.largest][self.mask], "all": best_of_mask[self.mask]}


def boxes_at_thresholds(grey: Grey, thresholds: ArrayLike) -> BoxesAtThresholds:
    """Extract boxes at each threshold: pixels brighter than int(threshold * maximum), 8-connected, holes included.

    Contours are searched once per set of thresholds between the same two grey levels of the map, at most 255 times,
    only within the rectangle that holds all bright pixels, and not where there can be only one contour.

    Args:
        grey: (H, W) uint8 map, H and W at least 1.
        thresholds: (T,) in [0, 1).

    Returns:
        The boxes of all thresholds.
    """
    cuts = (np.asarray(thresholds, np.float64) * int(grey.max())).astype(np.int64)
    levels = np.flatnonzero(np.bincount(grey.ravel(), minlength=256))
    _, one_of_each, mask = np.unique(np.searchsorted(levels, cuts, "right"), return_index=True, return_inverse=True)
    boxes, largest_of_mask = zip(*_boxes_above(grey, cuts[one_of_each]), strict=True)
    first = np.cumsum([0, *map(len, boxes)])[:-1]
    xyxy = np.concatenate(boxes).astype(np.int64)
    xyxy[:, 2:] = np.minimum(xyxy[:, :2] + xyxy[:, 2:], [grey.shape[1] - 1, grey.shape[0] - 1])
    return BoxesAtThresholds(xyxy, first, first + largest_of_mask, mask)


def iou_plus_one(first: ArrayLike, second: ArrayLike) -> Floats:
    """Return (n, m) IoU of (n, 4) and (m, 4) boxes xyxy whose sides are x1 - x0 + 1, as if x1 were the last pixel."""
    one_more = np.array([0, 0, 1, 1])
    return iou_matrix(np.asarray(first) + one_more, np.asarray(second) + one_more)


def resize_boxes(xyxy: ArrayLike, size: tuple[float, float], new_size: tuple[float, float]) -> Ints:
    """Scale (m, 4) boxes of an image from `size` (width, height) to `new_size`, fractions truncated."""
    boxes = np.asarray(xyxy, np.float64).reshape(-1, 4)
    # multiply before dividing: the other order rounds to other integers
    return (boxes * np.tile(new_size, 2) / np.tile(size, 2)).astype(np.int64)


class BoxAccuracy(AccuracyAtThresholds[Contours]):
    """MaxBoxAcc and MaxBoxAccV2, map by map, of "largest" and "all" contours."""

    def __init__(self, thresholds: ArrayLike | None = None) -> None:
        """Start counting.

        Args:
            thresholds: (T,) ascending in [0, 1); by default the protocol's thousand.

        Raises:
            ValueError: The thresholds are not ascending in [0, 1).
        """
        super().__init__(threshold_grid() if thresholds is None else thresholds, ("largest", "all"))

    def add(self, activation: ArrayLike, true_boxes: ArrayLike, image_size: tuple[float, float]) -> None:
        """Count one image, or one pair of an image and a class.

        Args:
            activation: (H, W) float map, any range and size.
            true_boxes: (m, 4) xyxy in pixels of the image, m >= 1.
            image_size: Width and height of the image in pixels.

        Raises:
            MapError: The map cannot be used; nothing is counted.
            ScoringError: The boxes or the size cannot be used; nothing is counted.
        """
        truth = resize_boxes(check_boxes(true_boxes, image_size), image_size, (SIDE_PX, SIDE_PX))
        found = boxes_at_thresholds(grey_levels(resize_map(activation)), self.thresholds)
        self.count(found.best_iou(truth))

    def max_box_acc(self) -> float:
        """Return MaxBoxAcc in [0, 1]: largest contour, IoU 0.5."""
        return self._best_at_half("largest")

    def max_box_acc_v2(self) -> float:
        """Return MaxBoxAccV2 in [0, 1]: all contours, mean over IoU 0.3, 0.5 and 0.7."""
        return self._mean_of_best("all")


# --- private ----------------------------------------------------------------------------------------------------------


def _boxes_above(grey: Grey, cuts: Ints) -> list[tuple[list[Sequence[int]], int]]:
    """x, y, width, height of each contour of the brighter pixels, and which is the largest, for (S,) ascending cuts.

    A contour is the outside of a component or a hole in one, so a single component with Euler number 1 has one contour,
    around all bright pixels, and needs no search. From a cut to a lower one components may merge, but a new one appears
    only with a new local maximum.
    """
    columns, rows = (_ranges_above(grey.max(axis), cuts) for axis in (0, 1))
    euler, maxima = (numbers[cuts].tolist() for numbers in (_euler_numbers_above(grey), _maxima_above(grey)))
    maxima_of_one_component = None
    found: list[tuple[list[Sequence[int]], int]] = []
    for i, cut in reversed(list(enumerate(cuts.tolist()))):
        (x0, x1), (y0, y1) = columns[i], rows[i]
        if euler[i] == 1 and maxima[i] == maxima_of_one_component:
            found.append(([(x0, y0, x1 - x0, y1 - y0)], 0))
            continue
        # OpenCV's order of contours does not depend on the rectangle searched
        contours = _contours((grey[y0:y1, x0:x1] > cut).view(np.uint8), (x0, y0))
        found.append(([cv2.boundingRect(contour) for contour in contours] or [_NO_REGION], _largest(contours)))
        components = (len(contours) + euler[i]) // 2  # components + holes, and components - holes
        maxima_of_one_component = maxima[i] if components == 1 else None
    return found[::-1]


def _euler_numbers_above(grey: Grey) -> Ints:
    """(256,) components less holes of the pixels above each grey level: corners - sides + squares of the pixels."""
    padded = np.pad(grey, 1)
    beside, below = np.maximum(padded[:, 1:], padded[:, :-1]), np.maximum(padded[1:], padded[:-1])
    corners = np.maximum(beside[1:], beside[:-1])
    return _above(corners) - _above(beside) - _above(below) + _above(grey)


def _maxima_above(grey: Grey) -> Ints:
    """(256,) pixels above each grey level that may be a local maximum; no maximum is missed.

    A pixel is no maximum beside a brighter one, nor beside an equal one that is no maximum; the latter is followed for
    a few pixels only, which is enough for the slopes of smooth maps.
    """
    neighbours = np.ones((3, 3), np.uint8)
    is_maximum = cv2.dilate(grey, neighbours) == grey
    for _ in range(_PLATEAU_PX):
        is_maximum &= cv2.dilate(grey * ~is_maximum, neighbours) < grey
    return _above(grey[is_maximum])


def _above(values: Grey) -> Ints:
    return values.size - np.bincount(values.ravel(), minlength=256).cumsum()


def _contours(mask: Grey, offset: tuple[int, int]) -> _Found:
    if not mask.size:
        return []
    return cv2.findContours(mask, cv2.RETR_TREE, cv2.CHAIN_APPROX_SIMPLE, offset=offset)[0]  # type: ignore[return-value]


def _largest(contours: _Found) -> int:
    areas = [cv2.contourArea(contour) for contour in contours] if len(contours) > 1 else [0.0]
    return areas.index(max(areas))


def _ranges_above(peaks: Grey, cuts: Ints) -> list[tuple[int, int]]:
    """For each cut, the first row or column that exceeds it, and one past the last."""
    starts = np.searchsorted(np.maximum.accumulate(peaks), cuts, "right")
    ends = len(peaks) - np.searchsorted(np.maximum.accumulate(peaks[::-1]), cuts, "right")
    return list(zip(starts.tolist(), ends.tolist(), strict=True))
