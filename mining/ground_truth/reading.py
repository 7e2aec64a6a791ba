"""Read ground truth into arrays: a COCO JSON file, a folder of VOC XML or of CUB list files.

Annotations marked `iscrowd`, `ignore` or `difficult` become ignored boxes: neither to be found nor wrong to find.
"""

import math
from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mining.arrays import Bools, Floats, Ints
from mining.errors import ScoringError
from mining.ground_truth.box_formats import (
    WrittenBoxes,
    check_box_format,
    is_in_first_pixel,
    note_on_boxes_outside,
)
from mining.ground_truth.boxes import TruthBoxes

if TYPE_CHECKING:
    from mining.corpus.listing import ListedImage
    from mining.ground_truth.sources import GroundTruthSource, TrueObject

NO_BOX = "have no box of four finite numbers"
NO_AREA = "have a box without area"
OUTSIDE = "have a box that lies wholly outside their image"
FIRST_PIXEL = "have a box that lies within the first pixel of their image"
_DOUBLED = "repeat a box of the same image and class"


@dataclass(frozen=True)
class GroundTruth:
    """True boxes of N images.

    Attributes:
        file: Name of the file, or of the folder of VOC XML.
        sha256: SHA-256 of the file, or of the folder's XML files.
        file_names: Names of the N images, ascending, with '/' between the parts.
        sizes: (N, 2) float64 width and height in pixels; NaN where the file does not state them.
        classes: Class names, ascending.
        boxes: The usable boxes; `image` and `category` count into file_names and classes.
        notes: One sentence for each kind of thing that was left out.
        own_names: For each image another name that it may have: that of its own XML file.
        is_known: (N,) bool, whether the image's objects are known; false where its annotations could not be read.
        unusable: Which annotations could not be used and why, as part of a sentence; empty if all could.
    """

    file: str
    sha256: str
    file_names: tuple[str, ...]
    sizes: Floats
    classes: tuple[str, ...]
    boxes: TruthBoxes
    notes: tuple[str, ...] = ()
    own_names: tuple[str | None, ...] = ()
    is_known: Bools = field(default_factory=lambda: np.empty(0, bool))
    unusable: str = ""

    def __post_init__(self) -> None:
        if not self.own_names:
            object.__setattr__(self, "own_names", (None,) * len(self.file_names))
        if not self.is_known.size:
            object.__setattr__(self, "is_known", np.ones(len(self.file_names), bool))

    def subset(self, images: Ints, classes: Ints) -> "GroundTruth":
        """Return the ground truth of some images and classes, given by position, in that order."""
        image = _positions(len(self.file_names), images)[self.boxes.image]
        category = _positions(len(self.classes), classes)[self.boxes.category]
        keep = (image >= 0) & (category >= 0)
        kept = replace(self.boxes.where(keep), image=image[keep], category=category[keep])
        names, own_names, class_names = (
            tuple(np.array(x, object)[i])
            for x, i in ((self.file_names, images), (self.own_names, images), (self.classes, classes))
        )
        return replace(
            self, file_names=names, own_names=own_names, sizes=self.sizes[images], is_known=self.is_known[images],
            classes=class_names, boxes=kept,
        )  # fmt: skip


def read_ground_truth(path: Path) -> GroundTruth:
    """Read the boxes of a COCO JSON file, of a folder of VOC XML, or of CUB's list files.

    A COCO annotation with a mask (polygons or RLE) but no `bbox` has the extent of the mask as its box. Annotations
    that cannot be used (of unknown images or categories, without a box or mask, without area, outside their image) are
    left out and counted in `notes`.

    Args:
        path: The file or folder; for CUB the folder, or the list of boxes in it.

    Returns:
        The ground truth.

    Raises:
        ScoringError: The file is missing, is not COCO JSON, uses an id for two things, has no usable annotation, or
            its boxes are not x, y, width, height in pixels.
        CorpusError: A list of CUB or an XML file is broken.
    """
    # imported here, because the corpus' readers take long to import
    from mining.corpus.sqlite_index import open_index_in_memory
    from mining.ground_truth.sources import open_source

    with open_index_in_memory() as table:
        source = open_source(path, table)
    names = sorted({image.name for image in source.images})
    position = {name: place for place, name in enumerate(names)}
    entries = np.array([position[image.name] for image in source.images], np.int64)
    sizes = _sizes(source, entries, names)
    classes = tuple(sorted(source.classes))
    boxes, of_unusable = _boxes(source, entries, sizes, classes)
    if source.left_out.seen(source.what) and not len(boxes):
        raise ScoringError(f"No annotation of {path} can be used: {source.left_out.reasons(source.what)}.")
    own_names = {image.name: image.own_name for image in source.images}
    is_known = _known(source, boxes, entries, of_unusable, len(names))
    leaving = note_on_boxes_outside(source.file, _written(boxes.xywh, sizes[boxes.image]))
    notes = (*source.notes(), *source.merging_notes(int((~is_known).sum())), *leaving)
    own = tuple(own_names[name] for name in names)
    unusable = source.left_out.reasons(source.what)
    return GroundTruth(source.file, source.sha256, tuple(names), sizes, classes, boxes, notes, own, is_known, unusable)


def _written(xywh: Floats, sizes: Floats) -> WrittenBoxes:
    # whether the file swaps width and height shows only once the image is decoded; see run_matching
    return WrittenBoxes(xywh, sizes, may_be_turned=True)


def _sizes(source: "GroundTruthSource", entries: Ints, names: Sequence[str]) -> Floats:
    """(N, 2) sizes; ScoringError where one name has two sizes, which makes it two images."""
    sizes = np.full((len(names), 2), np.nan)
    for place, size in zip(entries.tolist(), source.sizes, strict=True):
        stated = [_positive(side) for side in size]
        if not all(map(math.isfinite, stated)):
            continue
        if np.isfinite(sizes[place]).all() and sizes[place].tolist() != stated:
            raise ScoringError(source.two_sizes(names[place]))
        sizes[place] = stated
    return sizes


def _boxes(
    source: "GroundTruthSource", entries: Ints, sizes: Floats, classes: Sequence[str]
) -> tuple[TruthBoxes, list[int]]:
    """The usable boxes, and the images (as entries of the source) of the unusable ones."""
    class_number = {name: place for place, name in enumerate(classes)}
    rows, labels, unusable = array("d"), list[Any](), list[int]()
    for item in source.objects:
        row = _numbers(item)
        if row is None:
            unusable.append(item.image)
            source.left_out.add(source.what, NO_BOX, source.name_of(item.label))
            continue
        rows.extend((item.image, class_number[item.category], *row, item.is_ignored, item.is_crowd))
        labels.append(item.label)
    columns = np.frombuffer(rows, np.float64).reshape(-1, 9) if rows else np.empty((0, 9))
    entry = columns[:, 0].astype(np.int64)
    keep = _keep(source, columns, entries[entry], sizes[entries[entry]], labels)
    xywh = _xywh(source, columns)
    area = np.where(columns[:, 6] >= 0, columns[:, 6], xywh[:, 2] * xywh[:, 3])
    is_ignored, is_crowd = columns[:, 7].astype(bool), columns[:, 8].astype(bool)
    boxes = TruthBoxes(entries[entry], columns[:, 1].astype(np.int64), xywh, area, is_ignored, is_crowd)
    return boxes.where(keep), [*unusable, *entry[~keep].tolist()]


def _keep(source: "GroundTruthSource", columns: Floats, image: Ints, sizes: Floats, labels: list[Any]) -> Bools:
    """(n,) whether each box can be used; the others are counted. ScoringError for another box format."""
    xywh, shape = _xywh(source, columns), columns[:, 2:6]
    if source.are_corners:
        shape = np.concatenate([shape[:, :2], shape[:, 2:] - shape[:, :2]], axis=1)
    has_area = (xywh[:, 2:] > 0).all(axis=1)
    check_box_format(source.file, _written(shape[has_area], sizes[has_area]))
    reasons = {
        NO_AREA: ~has_area,
        FIRST_PIXEL: is_in_first_pixel(shape),
        # width and height may be swapped, which shows only once the image is decoded
        OUTSIDE: is_outside(xywh, sizes) & is_outside(xywh, sizes[:, ::-1]),
        _DOUBLED: _is_repeated(np.column_stack([image, columns[:, 1:6]]), source.images),
    }
    keep = np.ones(len(columns), bool)
    for why, flags in reasons.items():
        for place in np.flatnonzero(flags & keep):
            source.left_out.add(source.what, why, source.name_of(labels[place]))
        keep &= ~flags
    return keep


def is_outside(xywh: Floats, sizes: Floats) -> Bools:
    """Return which boxes lie completely outside their images.

    Args:
        xywh: (n, 4) boxes.
        sizes: (n, 2) width and height of each box's image; NaN where not known, which is never outside.

    Returns:
        (n,) bool.
    """
    return np.any((xywh[:, :2] >= sizes) | (xywh[:, :2] + xywh[:, 2:] <= 0), axis=1)


def _is_repeated(rows: Floats, images: "Sequence[ListedImage]") -> Bools:
    """(n,) whether an equal box precedes, for images that are listed more than once."""
    repeated = np.zeros(len(rows), bool)
    if len({image.name for image in images}) < len(images) and len(rows):
        repeated[:] = True
        repeated[np.unique(rows, axis=0, return_index=True)[1]] = False
    return repeated


def _xywh(source: "GroundTruthSource", columns: Floats) -> Floats:
    """(n, 4) half-open boxes; VOC's corners count pixels from 1, and the last one is inside the box."""
    numbers = columns[:, 2:6]
    if not source.are_corners:
        return numbers
    return np.concatenate([numbers[:, :2] - 1, numbers[:, 2:] - numbers[:, :2] + 1], axis=1)


def _numbers(item: "TrueObject") -> tuple[float, float, float, float, float] | None:
    """The four numbers of a box and the object's area, NaN where it is not stated; None where they are no box."""
    box = box_numbers(item.numbers)
    return None if box is None else (*box, _number(item.area))


def box_numbers(written: Any) -> tuple[float, float, float, float] | None:
    """Return the four finite numbers of a box as written in a file; None where it has no such numbers."""
    try:
        a, b, c, d = map(float, written)
    except (TypeError, ValueError, OverflowError):
        return None
    return (a, b, c, d) if math.isfinite(a + b + c + d + c * d) else None


def _known(source: "GroundTruthSource", boxes: TruthBoxes, entries: Ints, unusable: list[int], images: int) -> Bools:
    """(N,) whether the objects of each image are known."""
    has_box = np.bincount(boxes.image, minlength=images) > 0
    if source.is_unattached():
        return has_box
    is_incomplete = np.zeros(images, bool)
    is_incomplete[entries[[*unusable, *source.incomplete]]] = True
    return has_box | ~is_incomplete


def _number(value: Any) -> float:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    try:
        return float(value) if is_number and math.isfinite(value) else math.nan
    except OverflowError:
        return math.nan


def _positive(value: Any) -> float:
    number = _number(value)
    return number if number > 0 else math.nan


def _positions(length: int, chosen: Ints) -> Ints:
    """(length,) the new position of each old one, -1 for those not chosen."""
    positions = np.full(length, -1, np.int64)
    positions[chosen] = np.arange(len(chosen))
    return positions
