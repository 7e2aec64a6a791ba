"""Loc(delta): how well the explanation map of a class covers its objects, without extracting a box from the map.

The accuracy that MSRD reports for images with several labels (section IV-A), first used for Grad-CAM++. For an image I,
one of its labels c, and the map L of that class scaled to 0-1 by its own range, the explanation map is I where
L > delta and 0 elsewhere. With B the boxes of c in I:

    Loc(delta) = |explanation map's nonzero pixels inside B| / (|its nonzero pixels outside B| + area of B)

and the figure is its mean over all (image, label) pairs; MSRD has delta = 0.25.

The text leaves open what follows; here
- B is the union of all boxes of the class, where there are several, and its area that of the union;
- boxes lie on whole pixels of the map: a pixel belongs to B where its centre does, and the area is counted in such
  pixels, so that a map that is bright in B and nowhere else reaches 1;
- L <= delta becomes 0; kept as it is, as the text could be read, no pixel of a map would be 0;
- black pixels of the image, which are 0 in the explanation map whatever L is, count like any others.
"""

import numpy as np
from numpy.typing import ArrayLike

from mining.arrays import Bools, Floats
from mining.errors import MapError, ScoringError
from mining.evaluation.protocols.box_accuracy import check_boxes
from mining.regions.extraction import validate_map, validate_thresholds

DELTA = 0.25
_STEP = 0.05
DEFINITION = (
    "Loc(delta) of MSRD: mean over (image, class) pairs of the pixels above delta inside the union of the class's "
    "boxes, over those outside plus the area of the union; the map is scaled to 0-1 by its own range. value: at delta "
    "0.25, as in the paper."
)


class ExplanationAccuracy:
    """Loc(delta), map by map, at several values of delta.

    Attributes:
        deltas: (T,) float64, ascending in [0, 1).
        pairs: Number of maps so far.
    """

    def __init__(self, deltas: ArrayLike | None = None) -> None:
        """Start counting.

        Args:
            deltas: (T,) ascending in [0, 1); by default 0, 0.05, ... 0.95.

        Raises:
            ValueError: They are not ascending in [0, 1).
        """
        grid = np.round(np.arange(0, 1, _STEP), 2) if deltas is None else deltas
        self.deltas = validate_thresholds(grid)
        self.pairs = 0
        self._total = np.zeros(len(self.deltas))

    def add(self, activation: ArrayLike, true_boxes: ArrayLike, image_size: tuple[float, float]) -> None:
        """Count one pair of an image and a class.

        Args:
            activation: (H, W) float map, any range; its pixels are stretched over the image.
            true_boxes: (m, 4) xyxy in pixels of the image, half-open, m >= 1.
            image_size: Width and height of the image in pixels.

        Raises:
            MapError: The map cannot be used; nothing is counted.
            ScoringError: The boxes or the size cannot be used; nothing is counted.
        """
        boxes = check_boxes(true_boxes, image_size)
        height, width = np.shape(activation)
        scale = np.tile([width / image_size[0], height / image_size[1]], 2)
        self._total += explanation_overlap(activation, boxes * scale, self.deltas)
        self.pairs += 1

    def accuracy(self) -> Floats:
        """Return (T,) Loc(delta) in [0, 1] for each delta.

        Raises:
            ScoringError: No map has been counted.
        """
        if not self.pairs:
            raise ScoringError("No map was added, so there is no Loc(delta); add at least one.")
        return self._total / self.pairs

    def accuracy_at(self, delta: float = DELTA) -> float:
        """Return Loc(delta) in [0, 1] at one of the deltas.

        Raises:
            ScoringError: No map has been counted.
            ValueError: The delta is not among them.
        """
        return float(self.accuracy()[self.deltas.tolist().index(delta)])


def explanation_overlap(activation: ArrayLike, true_boxes: ArrayLike, deltas: ArrayLike = (DELTA,)) -> Floats:
    """Compute Loc(delta) of one image and one of its classes.

    Args:
        activation: (H, W) float map, any range.
        true_boxes: (m, 4) xyxy in pixels of the map, half-open, m >= 1.
        deltas: (T,) in [0, 1).

    Returns:
        (T,) values in [0, 1]; 0 for a constant map, and where the boxes cover the centre of no pixel.

    Raises:
        MapError: It is not an (H, W) float map, or holds NaN or infinity.
    """
    level = _scaled_to_0_1(activation)
    inside = _covered(np.asarray(true_boxes, np.float64), level.shape)
    bright_inside, bright_outside = (_count_above(level[where], deltas) for where in (inside, ~inside))
    union = bright_outside + inside.sum()
    return np.divide(bright_inside, union, out=np.zeros(len(union)), where=union > 0)


def _scaled_to_0_1(activation: ArrayLike) -> Floats:
    level = validate_map(activation).astype(np.float64)
    if not np.isfinite(level).all():
        raise MapError("The activation map holds NaN or infinity.")
    above = level - level.min()
    return above / (above.max() or 1.0)


def _covered(boxes: Floats, shape: tuple[int, ...]) -> Bools:
    """(H, W) the pixels whose centre lies in any of the boxes."""
    y, x = (np.arange(side) + 0.5 for side in shape)
    covered = np.zeros(shape, bool)
    for x0, y0, x1, y1 in boxes:
        covered |= ((y >= y0) & (y < y1))[:, None] & ((x >= x0) & (x < x1))
    return covered


def _count_above(values: Floats, deltas: ArrayLike) -> Floats:
    """(T,) how many of the (n,) values are above each delta."""
    return len(values) - np.searchsorted(np.sort(values), deltas, "right").astype(np.float64)
