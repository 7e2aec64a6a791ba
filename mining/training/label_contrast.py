"""Which classes a classifier can learn: those that some images show and others do not."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from mining.errors import CorpusError

Targets = npt.NDArray[np.float32]
NEARLY_ALL = 0.95  # share of the images from which on a class counts as being on all of them
_FEWEST_WITHOUT = 2  # one image may be held back for validation
_NAMED = 8


def has_contrast(targets: Targets) -> npt.NDArray[np.bool_]:
    """Return (C,) whether enough images lack each class.

    A class that is on all images, on NEARLY_ALL of them, or missing on a single one only although several show it,
    gives a classifier nothing to distinguish it from: it may use anything in the image.

    Args:
        targets: (n, C) of 0 and 1.
    """
    count = len(targets)
    positives = targets.sum(axis=0)
    without = count - positives
    return np.asarray((without >= np.minimum(_FEWEST_WITHOUT, positives)) & (positives < NEARLY_ALL * count))


def refuse_no_contrast(targets: Targets, classes: list[str]) -> None:
    """Check that a classifier can learn at least one class.

    Raises:
        CorpusError: All, or nearly all, images have the same labels.
    """
    if has_contrast(targets).any():
        return
    count = len(targets)
    if (targets.sum(axis=0) == count).all():
        found = f"All {count} labelled images have the same labels"
    else:
        found = f"Nearly all of the {count} labelled images have the same labels"
    raise CorpusError(
        f"{found}: {count_images(targets, classes)}. A classifier cannot learn what a class looks like from images "
        "that all show it. Add images without it: in a CSV with an empty `labels` cell, or with the names of other "
        "classes."
    )


def count_images(targets: Targets, classes: Sequence[str]) -> str:
    """Return the classes, each with the number of images that show it, as part of a sentence."""
    positives = targets.sum(axis=0)
    listed = [f"{name!r} (on {int(count)})" for name, count in zip(classes, positives, strict=True)]
    more = len(listed) - _NAMED
    return ", ".join(listed[:_NAMED]) + (f" and {more} more classes" if more > 0 else "")
