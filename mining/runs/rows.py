"""Rows of a finished run as tuples."""

from typing import NamedTuple


class ImageRow(NamedTuple):
    """One image of the corpus that could be read.

    Attributes:
        image_id: Its id in the corpus table.
        file_name: Its path below the image root, with '/'.
        width: Width in pixels, EXIF orientation applied.
        height: Height in pixels, EXIF orientation applied.
        split: Its split, if the listing has splits.
        is_known_empty: It is labelled as holding none of the classes.
        content_hash: SHA-256 of the file that was mined, None if unknown.
        labels: Its classes, None if unknown.
    """

    image_id: int
    file_name: str
    width: int
    height: int
    split: str | None
    is_known_empty: bool
    content_hash: str | None = None
    labels: tuple[str, ...] | None = None


class BoxRow(NamedTuple):
    """One accepted box.

    Its edges x0, y0, x1, y1 are pixels of the oriented image, half-open, inside it, rounded to 1/100 px. A true box
    with `is_ignored` counts neither if it is found nor if it is missed.
    """

    annotation_id: int
    image_id: int
    category_id: int
    category: str
    source: str
    score: float
    x0: float
    y0: float
    x1: float
    y1: float
    is_ignored: bool = False


class BoxedImage(NamedTuple):
    """An image with its boxes, highest score first; there may be none."""

    image: ImageRow
    boxes: tuple[BoxRow, ...]
