"""Sentences about labels that teach little about where objects are, known before the training starts.

The limits are measured: docs/benchmarks.md, "Labels that teach little".
"""

from collections.abc import Sequence

import numpy as np

from mining.arrays import Bools, Ints
from mining.training.label_contrast import NEARLY_ALL, Targets, count_images, has_contrast

# images that show a class: CorLoc of ten classes of voc-mini is 57 % with two each, 69 % with five, 74 % from ten on
FEW_IMAGES, ENOUGH_IMAGES = 5, 10
TOGETHER = NEARLY_ALL  # of the images that show one of two classes or both, the share that shows both
FEWEST_TOGETHER = 5  # such images: fewer come together by chance
BOXED_IMAGES = 10  # true boxes of so many of 40 images raise CorLoc of two such classes from 21 and 13 % to 75 and 56 %
_NAMED = 4  # pairs
_ROWS_AT_ONCE = 8192


def warn_of_labels(targets: Targets, classes: Sequence[str], metric: str, *, can_give_boxes: bool = False) -> list[str]:
    """Return sentences, with counts and remedy, about classes whose place the labels can hardly teach.

    These are classes on nearly all images, pairs of classes that nearly always come together, and rare classes.
    A class that never comes without a second one is no such case if the second comes without the first often enough.

    Args:
        targets: (n, C) of 0 and 1.
        classes: C names.
        metric: Name of the validation metric, which the former are left out of.
        can_give_boxes: Whether true boxes of a few images can be learned from and are not given. They are named as a
            remedy of classes that come together; of a class on nearly all images they are none (measured).
    """
    is_everywhere = ~has_contrast(targets)
    return [
        *_warn_of_classes_everywhere(targets, is_everywhere, classes, metric),
        *_warn_of_companions(targets, is_everywhere, classes, can_give_boxes),
        *_warn_of_few_images(targets, classes),
    ]


def count_together(targets: Targets) -> Ints:
    """Count the images that show two classes.

    Args:
        targets: (n, C) of 0 and 1.

    Returns:
        (C, C) numbers, 0 on the diagonal.
    """
    together = np.zeros((targets.shape[1],) * 2)
    several = np.flatnonzero(targets.sum(axis=1) > 1)  # of a million images with one class each, none
    for start in range(0, len(several), _ROWS_AT_ONCE):
        rows = targets[several[start : start + _ROWS_AT_ONCE]]
        together += rows.T @ rows
    np.fill_diagonal(together, 0)
    return together.astype(np.int64)


def _warn_of_classes_everywhere(
    targets: Targets, is_everywhere: Bools, classes: Sequence[str], metric: str
) -> list[str]:
    found = np.flatnonzero(is_everywhere).tolist()
    if not found:
        return []
    shown = targets[:, found]
    every = f"All {len(targets)}" if shown.all() else f"Nearly all of the {len(targets)}"
    them, their, they_are = ("it", "its", "it is") if len(found) == 1 else ("them", "their", "they are")
    return [
        f"{every} labelled images show {count_images(shown, [classes[column] for column in found])}: nothing in the "
        f"labels distinguishes {them} from the background, so that {their} boxes may be on anything that all images "
        f"have in common, and {they_are} left out of the {metric}. Add similar images without {them}, more than "
        f"{1 - NEARLY_ALL:.0%} of all images (in a CSV with an empty `labels` cell), or cut the images into parts and "
        "label each part."
    ]


def _warn_of_few_images(targets: Targets, classes: Sequence[str]) -> list[str]:
    positives = targets.sum(axis=0)
    few = [int(column) for column in np.argsort(positives, kind="stable") if positives[column] < FEW_IMAGES]
    if not few:
        return []
    it, its = ("it", "its") if len(few) == 1 else ("them", "their")
    return [
        f"Few images show {count_images(targets[:, few], [classes[column] for column in few])}: {its} boxes will be "
        f"wrong more often than those of other classes. Add images that show {it}, at least {FEW_IMAGES} per class and "
        f"better {ENOUGH_IMAGES}."
    ]


def _warn_of_companions(
    targets: Targets, is_everywhere: Bools, classes: Sequence[str], can_give_boxes: bool
) -> list[str]:
    positives = targets.sum(axis=0, dtype=np.float64).astype(np.int64)
    both = count_together(targets)
    either = positives[:, None] + positives - both
    # two classes that are on all images are named already
    is_pair = (both >= FEWEST_TOGETHER) & (both > TOGETHER * either) & ~is_everywhere
    pairs = np.argwhere(np.triu(is_pair))
    sentences = [
        _describe_pair(
            classes[first], classes[second], int(both[first, second]), int(either[first, second]), can_give_boxes
        )
        for first, second in pairs[:_NAMED].tolist()
    ]
    more = len(pairs) - _NAMED
    return [*sentences, f"So do {more} more pairs of classes."] if more > 0 else sentences


def _describe_pair(first: str, second: str, both: int, either: int, can_give_boxes: bool) -> str:
    if both == either:
        found = f"{first!r} and {second!r} always come together (on {both} images): labels do not say which is which"
        effect = "are often"
    else:
        found = (
            f"{first!r} and {second!r} nearly always come together (on {both} images; only one of them on "
            f"{either - both}): labels hardly say which is which"
        )
        effect = "may be"
    boxes = f", or give true boxes of {BOXED_IMAGES} of the images or more (`--boxes`)" if can_give_boxes else ""
    return f"{found}, so that boxes of one {effect} on the other. Add images that show only one of them{boxes}."
