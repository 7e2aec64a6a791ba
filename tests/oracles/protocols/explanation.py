"""Loc(delta): how well the explanation map of a class covers its objects, without extracting a box from the map.

The accuracy that MSRD reports for images with several labels (section IV-A), first used for Grad-CAM++. For an image I,
one of its labels c, and the map L of that class brought to 0-1 by its own range at the size of the image, the
explanation map is I where L > delta and 0 elsewhere. With B the boxes of c in I:

    Loc(delta) = |explanation map's nonzero pixels inside B| / (|its nonzero pixels outside B| + area of B)

and the figure is its mean over all (image, label) pairs; MSRD has delta = 0.25.

The text leaves open what follows; here
- B is the union of all boxes of the class, where there are several, and its area that of the union;
- boxes lie on whole pixels: a pixel belongs to B where its centre does, and the area is counted in such pixels, so that
  a map that is bright in B and nowhere else reaches 1;
- L <= delta becomes 0; kept as it is, as the text could be read, no pixel of a map would be 0;
- pixels of the photo that are pure black are 0 in the explanation map, whatever L is, where the photo is given.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from mining.arrays import Bools, Floats
from mining.errors import ScoringError
from mining.evaluation.metrics.hits import mean_or_none
from tests.oracles.protocols.maps import finite_map

DEFINITION = (
    "Loc(delta) of MSRD: mean over (image, label) pairs of the nonzero pixels of the class's explanation map inside "
    "the union of its boxes, over those outside plus the area of the union; nonzero where the activation map, brought "
    "to 0-1 by its own range at the size of the image, is above delta."
)
DELTA = 0.25


def explanation_overlap(
    activation: ArrayLike, true_boxes: ArrayLike, *, delta: float = DELTA, photo: ArrayLike | None = None
) -> float:
    """Loc(delta) of one image and one of its labels, in [0, 1]; 0 for a constant map.

    activation: (H, W) float at the size of the image, any range. true_boxes: (m, 4) xyxy, half-open, px, m >= 1.
    delta: in [0, 1). photo: (H, W) or (H, W, channels), whose black pixels count as 0; without it no pixel is black.
    Raises MapError for a map that cannot be used, ScoringError for boxes or a photo that cannot, ValueError for delta.
    """
    if not 0 <= delta < 1:
        raise ValueError(f"delta is {delta}; expected at least 0 and below 1.")
    level = _brought_to_0_1(activation)
    inside = _covered(true_boxes, level.shape)
    nonzero = level > delta
    if photo is not None:
        nonzero &= _not_black(photo, level.shape)
    return float((nonzero & inside).sum() / ((nonzero & ~inside).sum() + inside.sum()))


def explanation_accuracy(of_pairs: Sequence[float] | Floats) -> float | None:
    """The figure from Loc(delta) of each pair (P,); None where there is no pair."""
    return mean_or_none(of_pairs)


def _brought_to_0_1(activation: ArrayLike) -> Floats:
    level = finite_map(activation).astype(np.float64)
    above = level - level.min()
    return above / (above.max() or 1.0)


def _covered(xyxy: ArrayLike, shape: tuple[int, ...]) -> Bools:
    """(H, W) the pixels whose centre lies in any of the boxes."""
    boxes = np.asarray(xyxy, np.float64).reshape(-1, 4)
    y, x = (np.arange(side) + 0.5 for side in shape)
    covered = np.zeros(shape, bool)
    for x0, y0, x1, y1 in boxes:
        covered |= ((y >= y0) & (y < y1))[:, None] & ((x >= x0) & (x < x1))
    if not covered.any():
        raise ScoringError(
            f"True boxes {boxes.tolist()} cover no pixel of the {shape[1]} x {shape[0]} map; give boxes in its pixels."
        )
    return covered


def _not_black(photo: ArrayLike, shape: tuple[int, ...]) -> Bools:
    pixels = np.asarray(photo)
    if pixels.shape[:2] != shape or pixels.ndim > 3:
        raise ScoringError(f"The photo has shape {pixels.shape}, the map {shape}; bring the map to the photo's size.")
    return (pixels.reshape(*shape, -1) != 0).any(axis=2)
