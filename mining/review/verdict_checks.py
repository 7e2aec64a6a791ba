"""Checks of what reviewers say, before it is recorded."""

import numpy as np

from mining.errors import InputError, did_you_mean
from mining.quality.judgements import VERDICTS, Box
from mining.review.run_index import ImageInfo, RunIndex

_SAME_PX = 0.02


def check_verdict(verdict: str, category: str | None) -> None:
    """Raise InputError for an unknown verdict, or a class with another verdict than wrong_class."""
    if verdict not in VERDICTS:
        raise InputError(f"{verdict!r} is no verdict on a box; {did_you_mean(verdict, VERDICTS)}")
    if category is not None and verdict != "wrong_class":
        raise InputError("A box of another class has the verdict wrong_class.")


def reviewer_name(reviewer: str) -> str:
    """Return a name without the spaces around it. Raises InputError for an empty one."""
    if not reviewer.strip():
        raise InputError("The reviewer has no name.")
    return reviewer.strip()


def box_of(index: RunIndex, place: int) -> Box:
    """Return a mined box, xywh in px of its image, by its place in the index."""
    x, y, w, h = (float(side) for side in index.xywh[place])
    return x, y, w, h


def is_same_box(own: Box, box: Box) -> bool:
    """Return whether two boxes differ by rounding alone."""
    return all(abs(first - second) <= _SAME_PX for first, second in zip(own, box, strict=True))


def clip_box(box: Box, image: ImageInfo) -> Box:
    """Return the part of a box inside the image. Raises InputError if there is none."""
    if not np.isfinite(box).all():
        raise InputError("A box has four finite numbers.")
    x, y = max(0.0, box[0]), max(0.0, box[1])
    w, h = min(box[0] + box[2], image.width) - x, min(box[1] + box[3], image.height) - y
    if w < 1 or h < 1:
        raise InputError("A box has at least one pixel inside its image.")
    return round(x, 2), round(y, 2), round(w, 2), round(h, 2)
