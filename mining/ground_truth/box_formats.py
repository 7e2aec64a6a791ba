"""Detect boxes in another format than the file's: corners, fractions of the image, or percentages of it.

Such a file reads without an error and gives wrong figures, so it is refused. A good file must not be, however small it
is and however careless some of its boxes are: each box is evidence for or against, and only clear evidence counts.
"""

from dataclasses import dataclass

import numpy as np

from mining.arrays import Bools, Floats
from mining.errors import ScoringError

# log-likelihood ratios of corners against careless boxes: for a box that leaves its image by a quarter of the side, a
# tenth, a fiftieth or not at all; and for one that lies inside when read as corners, or does not
_LEAVES_BY, _WEIGHT, _WEIGHT_INSIDE = (0.25, 0.1, 0.02), (4.0, 2.5, 1.0), -0.9
_FITS, _DOES_NOT_FIT = 0.7, -4.0
_CLEAR = 7.0  # 1000 to 1
_FEW = 3
_SHARE_LEAVING = 1 / 3
_LARGE = 200  # pixels: in a larger image a box in the middle extends beyond the first 100
_NOTED = 0.15

_REMEDY_FOR_FRACTIONS = "Multiply x and width by the image's width, y and height by its height"
_CORNERS = (
    "They look like corners (x0, y0, x1, y1): {leaving} leave their image when read as x, y, width, height, and lie "
    "inside when read as corners. Write x1 - x0 and y1 - y0 in place of x1 and y1."
)
_RELATIVE = (
    "They look relative, as fractions of the image from 0 to 1: {relative} lie within its first pixel, and {leaving} "
    f"leave it. {_REMEDY_FOR_FRACTIONS}."
)
_PERCENT = (
    "They look like percentages of the image: all of them lie within the first 100 pixels of larger images, and "
    f"{{leaving}} leave their image. {_REMEDY_FOR_FRACTIONS}, and divide by 100."
)


@dataclass(frozen=True)
class WrittenBoxes:
    """n boxes as written in a file.

    Attributes:
        xywh: (n, 4) what should be x, y, width, height in pixels.
        sizes: (n, 2) width and height of each box's image in pixels; NaN where not known.
        may_be_turned: Whether width and height may be swapped, as some tools write them for phone photos.
    """

    xywh: Floats
    sizes: Floats
    may_be_turned: bool = False

    @property
    def _turns(self) -> tuple[Floats, ...]:
        return (self.sizes, self.sizes[:, ::-1]) if self.may_be_turned else (self.sizes,)

    def excess(self) -> Floats:
        """Return (n,) by what share of the side each box leaves its image; 0 inside, NaN without a size."""
        far = self.xywh[:, :2] + self.xywh[:, 2:]
        return np.min([np.maximum(far / size - 1, 0).max(axis=1) for size in self._turns], axis=0)

    def is_inside_as_corners(self) -> Bools:
        """Return (n,) whether each box would lie inside if it were x0, y0, x1, y1."""
        is_ordered = (self.xywh[:, 2:] > self.xywh[:, :2]).all(axis=1) & (self.xywh >= -1).all(axis=1)
        return is_ordered & np.any([(self.xywh[:, 2:] <= size * 1.02 + 1).all(axis=1) for size in self._turns], axis=0)


def check_box_format(file: str, boxes: WrittenBoxes) -> None:
    """Raise ScoringError if the boxes of a file are clearly not x, y, width, height in pixels."""
    total = len(boxes.xywh)
    kinds = ((_is_relative, _RELATIVE), (_is_percent, _PERCENT), (_is_corners, _CORNERS))
    sentence = next((text for matches, text in kinds if total and matches(boxes)), None)
    if sentence is None:
        return
    leaving = _share(boxes.excess() > 0, total)
    evidence = sentence.format(leaving=leaving, relative=_share(is_in_first_pixel(boxes.xywh), total))
    raise ScoringError(f"The boxes of {file} are not x, y, width, height in pixels. {evidence}")


def note_on_boxes_outside(file: str, boxes: WrittenBoxes) -> list[str]:
    """Return a sentence on boxes that extend far beyond their images; none where there are no such boxes."""
    flags = boxes.excess() > _NOTED
    if not flags.any():
        return []
    return [
        f"{_share(flags, len(flags))} of {file} leave their image by more than {_NOTED:.0%} of its side. Boxes should "
        "be x, y, width, height in pixels of the image as it is displayed."
    ]


def is_in_first_pixel(xywh: Floats) -> Bools:
    """Return (n,) whether each box lies in the first pixel of its image, as relative boxes do, without filling it."""
    is_whole = (xywh == np.round(xywh)).all(axis=1)
    return (np.abs(xywh) <= 1.01).all(axis=1) & ~is_whole


def _is_relative(boxes: WrittenBoxes) -> bool:
    return bool(is_in_first_pixel(boxes.xywh).mean() >= 0.5)


def _is_percent(boxes: WrittenBoxes) -> bool:
    """Whether all boxes lie within the first 100 pixels of larger images, and are spread over them."""
    xywh = boxes.xywh
    far = xywh[:, :2] + xywh[:, 2:]
    if (far > 101).any() or (xywh < -1).any():
        return False
    is_large = boxes.sizes > _LARGE
    if is_large.any(axis=1).sum() < _FEW:
        return False
    # log-probability that boxes anywhere in their images lie there
    chance = np.log(100 / boxes.sizes[is_large]).sum()
    centre = xywh[:, :2] + xywh[:, 2:] / 2
    is_spread = (far.max(axis=0) > 75) & (xywh[:, :2].min(axis=0) < 35) & (centre.std(axis=0) > 4)
    return bool(chance < -2 * _CLEAR and is_spread.all())


def _is_corners(boxes: WrittenBoxes) -> bool:
    """Whether boxes extend far beyond their images, and none would if they were corners."""
    excess, fits = boxes.excess(), boxes.is_inside_as_corners()
    known = np.isfinite(excess)
    excess, fits = excess[known], fits[known]
    is_leaving = excess > _LEAVES_BY[-1]
    if is_leaving.sum() < max(_FEW, _SHARE_LEAVING * len(excess)):
        return False
    weights = np.select([excess > by for by in _LEAVES_BY], _WEIGHT, _WEIGHT_INSIDE)
    return bool((weights + np.where(fits, _FITS, _DOES_NOT_FIT)).sum() >= _CLEAR)


def _share(flags: Bools, total: int) -> str:
    return f"{int(flags.sum())} of {total} boxes ({flags.sum() / total:.0%})"
