"""What a person left on the images, as the files of review tools have it."""

import math
from collections.abc import Iterator
from typing import NamedTuple

Edges = tuple[float, float, float, float]


class DrawnBox(NamedTuple):
    """A box as it stands after the review.

    Attributes:
        key: What may be the key of a mined box, see `mining.quality.review_keys`; None for a box that was added.
        category: Class name; None where the person gave none.
        xyxy: Edges, in the unit of the image's `is_relative`.
    """

    key: str | None
    category: str | None
    xyxy: Edges


class ReviewedImage(NamedTuple):
    """An image that was looked at.

    Attributes:
        names: Names that it may have in the run, the likeliest first.
        boxes: The boxes on it.
        run: Key of the run that the boxes were exported from, where the file says so.
        shown: Ids of the boxes that were shown, where the file says so.
        is_relative: Edges are shares of the image's width and height, not pixels.
    """

    names: tuple[str, ...]
    boxes: tuple[DrawnBox, ...]
    run: str | None = None
    shown: tuple[int, ...] | None = None
    is_relative: bool = False


class ReviewFile(NamedTuple):
    """A file of a review tool: its images, and notes, which are complete once the images were read."""

    tool: str
    images: Iterator[ReviewedImage]
    notes: list[str]


def extent(x: float, y: float, width: float, height: float, degrees: float, around: tuple[float, float]) -> Edges:
    """Return the edges of a rectangle that is turned clockwise.

    Args:
        x: Left edge before it is turned, in px.
        y: Top edge.
        width: Width.
        height: Height.
        degrees: Angle.
        around: The point that stays where it is, in px.

    Returns:
        xyxy of the turned rectangle's extent.
    """
    if not degrees % 360:
        return x, y, x + width, y + height
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    turned = [
        (around[0] + (px - around[0]) * cos - (py - around[1]) * sin,
         around[1] + (px - around[0]) * sin + (py - around[1]) * cos)
        for px in (x, x + width)
        for py in (y, y + height)
    ]  # fmt: skip
    xs, ys = zip(*turned, strict=True)
    return min(xs), min(ys), max(xs), max(ys)
