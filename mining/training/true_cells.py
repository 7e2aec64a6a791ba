"""Cells of images whose true boxes are known: examples of their classes and of the background without any doubt.

All cells of a box are examples of its class, its corners too: a box is drawn around the region that the classifier
finds, so that what it learns from a box is where the box ends.
"""

from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from mining.arrays import Bools, Floats, Ints
from mining.corpus.images.image_file import sha256_of_image
from mining.errors import ImageError
from mining.ground_truth.matching import match_classes
from mining.ground_truth.reading import GroundTruth
from mining.training.cell_labels import UNUSED
from mining.training.labelled_images import LabelledImages

INSIDE, OUTSIDE = 0.5, 0.1  # lowest share of a cell's area inside a box, and highest share outside


@dataclass(frozen=True)
class TrueObjects:
    """All objects of an image.

    Attributes:
        xyxy: (m, 4) corners of the boxes as shares of the image's width and height, half-open.
        classes: (m,) class indices.
        is_ignored: (m,) whether what is inside a box is neither object nor background.
    """

    xyxy: Floats
    classes: Ints
    is_ignored: Bools


@dataclass(frozen=True)
class TrueCells:
    """Which of n cells are inside the boxes of an image, the smallest box first.

    Attributes:
        inside: (n, m) bool, of each box that is not ignored.
        classes: (m,) int64, class indices of these boxes.
        outside: (n,) bool, whether a cell is outside all boxes, ignored ones included.
    """

    inside: Tensor
    classes: Tensor
    outside: Tensor

    def __getitem__(self, cells: Tensor) -> "TrueCells":
        return TrueCells(self.inside[cells], self.classes, self.outside[cells])


def true_objects(truth: GroundTruth, files: Sequence[str], classes: Sequence[str]) -> dict[int, TrueObjects]:
    """Return the objects of the images whose true boxes are known.

    Args:
        truth: True boxes, with the file names and the sizes of the images, see `read_checked_boxes`.
        files: File names of the images to train on.
        classes: Class names.

    Returns:
        Objects by position in `files`; not of images whose size is not known.
    """
    position = {name: place for place, name in enumerate(files)}
    column = match_classes(truth.classes, classes)
    found = {}
    for image, name in enumerate(truth.file_names):
        size = truth.sizes[image]
        if name not in position or not np.isfinite(size).all():
            continue
        boxes = truth.boxes.where(truth.boxes.image == image)
        shares = boxes.xyxy / np.tile(size, 2)
        found[position[name]] = TrueObjects(shares.clip(0, 1), column[boxes.category], boxes.is_ignored)
    return found


def image_digests(images: LabelledImages, rows: Iterable[int]) -> list[str]:
    """Return the SHA-256 of some image files, ascending; those that cannot be read are left out."""
    found = []
    for row in rows:
        with suppress(ImageError, OSError):
            found.append(sha256_of_image(images.root / images.files[row]))
    return sorted(found)


def true_cells(objects: TrueObjects, grid: tuple[int, int]) -> TrueCells:
    """Find the cells inside and outside the boxes of an image.

    A cell is inside a box that covers half of it. Of a box that covers half of no cell, those that it covers most are.

    Args:
        objects: The objects.
        grid: Rows h and columns w of cells, which tile the image.

    Returns:
        The h * w cells, row by row.
    """
    height, width = grid
    across, down = _overlaps(objects.xyxy[:, 0::2], width), _overlaps(objects.xyxy[:, 1::2], height)
    covered = (down[:, :, None] * across[:, None, :]).reshape(len(objects.xyxy), height * width)
    outside = (covered <= OUTSIDE).all(axis=0)
    sides = objects.xyxy[:, 2:] - objects.xyxy[:, :2]
    order = np.argsort(sides.prod(axis=1), kind="stable")
    order = order[~objects.is_ignored[order]]
    kept = covered[order]
    inside = kept >= np.minimum(INSIDE, kept.max(axis=1, initial=0, keepdims=True))
    inside &= kept > 0
    return TrueCells(
        torch.from_numpy(inside.T.copy()), torch.from_numpy(objects.classes[order]), torch.from_numpy(outside)
    )


def _overlaps(edges: Floats, count: int) -> Floats:
    """(m, count) the share of each of `count` equal parts of a side that lies between two edges, (m, 2)."""
    lines = np.arange(count + 1) / count
    shared = np.minimum(edges[:, 1:], lines[1:]) - np.maximum(edges[:, :1], lines[:-1])
    return np.asarray(shared.clip(0) * count, np.float64)


def label_true_cells(cells: TrueCells, values: Tensor, classes: Sequence[int], background: int) -> Tensor:
    """Label the cells of an image whose true boxes are known.

    Args:
        cells: Which of n cells are inside boxes.
        values: (n, K) in 0-1, of the K classes of the image: decide between boxes of different classes; of the same
            class or of classes without values, the smallest box counts.
        classes: K class indices.
        background: Label of the background.

    Returns:
        (n,) int64; -1 for cells that are neither inside a box nor outside all.
    """
    labels = torch.full((len(cells.outside),), UNUSED)
    labels[cells.outside] = background
    if not len(cells.classes):
        return labels
    by_class = torch.zeros(len(values), background)
    by_class[:, list(classes)] = values
    strength = cells.inside * (1 + by_class[:, cells.classes])
    highest, box = strength.max(dim=1)
    return torch.where(highest > 0, cells.classes[box], labels)
