"""The truth: a COCO JSON file with boxes, a folder of VOC XML or of CUB list files, read into arrays.

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
from mining.evaluation.boxes import TruthBoxes
from mining.evaluation.ground_truth.box_formats import (
    WrittenBoxes,
    check_box_format,
    is_in_first_pixel,
    leaving_note,
)

if TYPE_CHECKING:
    from mining.corpus.listing import ListedImage
    from mining.evaluation.ground_truth.sources import Source, TrueObject

_NO_BOX = "have no box of four finite numbers"
_NO_AREA = "have a box without area"
_OUTSIDE = "have a box that lies wholly outside their image"
_FIRST_PIXEL = "have a box that lies within the first pixel of their image"
_DOUBLED = "repeat a box of the same image and class"


@dataclass(frozen=True)
class Truth:
    """What a truth file says.

    file, sha256: name and SHA-256 of the file, or of the folder of VOC XML.
    file_names: of the N images, ascending, '/' between the parts.
    sizes: (N, 2) float64 width and height in pixels; NaN where the file does not tell.
    classes: class names, ascending.
    boxes: the usable boxes; `image` and `category` count into file_names and classes.
    notes: one sentence for each kind of thing that was left out.
    own_names: of the N images, another name that the image may have: that of its own XML file.
    is_known: (N,) whether it is known which objects the image holds; not where its annotations could not be read.
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

    def __post_init__(self) -> None:
        if not self.own_names:
            object.__setattr__(self, "own_names", (None,) * len(self.file_names))
        if not self.is_known.size:
            object.__setattr__(self, "is_known", np.ones(len(self.file_names), bool))

    def subset(self, images: Ints, classes: Ints) -> "Truth":
        """The same truth for some images and classes only, given by position, in that order."""
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


def read_truth(path: Path) -> Truth:
    """Read the boxes of a COCO JSON file, of a folder of VOC XML, or of CUB's list files.

    path: of CUB the folder, or the list of boxes in it.
    What cannot be used (annotations of unknown images or categories, without box, without area, outside their
    image) is left out and counted in `notes`.
    Raises ScoringError when the file is missing, is not JSON, is not COCO, has ids that stand for two things, has
    annotations of which none can be used, or boxes that are not x, y, width, height in pixels; and CorpusError when
    a list of CUB or an XML is broken.
    """
    # with the corpus' readers, which take their time
    from mining.corpus.sqlite_index import open_index_in_memory
    from mining.evaluation.ground_truth.sources import open_source

    with open_index_in_memory() as table:
        source = open_source(path, table)
    names = sorted({image.name for image in source.images})
    position = {name: place for place, name in enumerate(names)}
    entries = np.array([position[image.name] for image in source.images], np.int64)
    sizes = _sizes(source, entries, names)
    classes = tuple(sorted(source.classes))
    boxes, of_unusable = _boxes(source, entries, sizes, classes)
    seen = source.left_out.seen(source.what)
    if seen and not len(boxes):
        raise ScoringError(f"No annotation of {path} can be used: {source.left_out.reasons(source.what)}.")
    own_names = {image.name: image.own_name for image in source.images}
    is_known = _known(source, boxes, entries, of_unusable, len(names))
    leaving = leaving_note(source.file, _written(boxes.xywh, sizes[boxes.image]))
    notes = (*source.notes(), *source.merging_notes(int((~is_known).sum())), *leaving)
    own = tuple(own_names[name] for name in names)
    return Truth(source.file, source.sha256, tuple(names), sizes, classes, boxes, notes, own, is_known)


def _written(xywh: Floats, sizes: Floats) -> WrittenBoxes:
    # only the decoded image tells whether the width in the file is the width; see `score`
    return WrittenBoxes(xywh, sizes, may_be_turned=True)


def _sizes(source: "Source", entries: Ints, names: Sequence[str]) -> Floats:
    """(N, 2). Raises ScoringError where an image of one name has two sizes, and so is two images."""
    sizes = np.full((len(names), 2), np.nan)
    for place, size in zip(entries.tolist(), source.sizes, strict=True):
        told = [_positive(side) for side in size]
        if not all(map(math.isfinite, told)):
            continue
        if np.isfinite(sizes[place]).all() and sizes[place].tolist() != told:
            raise ScoringError(source.two_sizes(names[place]))
        sizes[place] = told
    return sizes


def _boxes(source: "Source", entries: Ints, sizes: Floats, classes: Sequence[str]) -> tuple[TruthBoxes, list[int]]:
    """The usable boxes, and the images (as entries of the source) of those that are not."""
    number_of = {name: place for place, name in enumerate(classes)}
    rows, labels, unusable = array("d"), list[Any](), list[int]()
    for one in source.objects:
        row = _numbers(one)
        if row is None:
            unusable.append(one.image)
            source.left_out.add(source.what, _NO_BOX, source.name_of(one.label))
            continue
        rows.extend((one.image, number_of[one.category], *row, one.is_ignored, one.is_crowd))
        labels.append(one.label)
    columns = np.frombuffer(rows, np.float64).reshape(-1, 9) if rows else np.empty((0, 9))
    entry = columns[:, 0].astype(np.int64)
    keep = _keep(source, columns, entries[entry], sizes[entries[entry]], labels)
    xywh = _xywh(source, columns)
    area = np.where(columns[:, 6] >= 0, columns[:, 6], xywh[:, 2] * xywh[:, 3])
    is_ignored, is_crowd = columns[:, 7].astype(bool), columns[:, 8].astype(bool)
    boxes = TruthBoxes(entries[entry], columns[:, 1].astype(np.int64), xywh, area, is_ignored, is_crowd)
    return boxes.where(keep), [*unusable, *entry[~keep].tolist()]


def _keep(source: "Source", columns: Floats, image: Ints, sizes: Floats, labels: list[Any]) -> Bools:
    """(n,) the boxes that can be used; the others are counted.

    Raises ScoringError where the boxes are of another kind than the format's.
    """
    xywh, shape = _xywh(source, columns), columns[:, 2:6]
    if source.are_corners:
        shape = np.concatenate([shape[:, :2], shape[:, 2:] - shape[:, :2]], axis=1)
    has_area = (xywh[:, 2:] > 0).all(axis=1)
    check_box_format(source.file, _written(shape[has_area], sizes[has_area]))
    reasons = {
        _NO_AREA: ~has_area,
        _FIRST_PIXEL: is_in_first_pixel(shape),
        # the sizes may be each other's; which they are is known once the image is decoded
        _OUTSIDE: is_outside(xywh, sizes) & is_outside(xywh, sizes[:, ::-1]),
        _DOUBLED: _is_repeated(np.column_stack([image, columns[:, 1:6]]), source.images),
    }
    keep = np.ones(len(columns), bool)
    for why, flags in reasons.items():
        for place in np.flatnonzero(flags & keep):
            source.left_out.add(source.what, why, source.name_of(labels[place]))
        keep &= ~flags
    return keep


def is_outside(xywh: Floats, sizes: Floats) -> Bools:
    """(n,) the boxes that lie wholly outside of images of these sizes, (n, 2); NaN = not known, and not outside."""
    return np.any((xywh[:, :2] >= sizes) | (xywh[:, :2] + xywh[:, 2:] <= 0), axis=1)


def _is_repeated(rows: Floats, images: "Sequence[ListedImage]") -> Bools:
    """(n,) the boxes that stand before, of images that are listed more than once."""
    repeated = np.zeros(len(rows), bool)
    if len({image.name for image in images}) < len(images) and len(rows):
        repeated[:] = True
        repeated[np.unique(rows, axis=0, return_index=True)[1]] = False
    return repeated


def _xywh(source: "Source", columns: Floats) -> Floats:
    """(n, 4) half-open boxes; VOC's corners are pixels counted from 1, the last one inside the box."""
    numbers = columns[:, 2:6]
    if not source.are_corners:
        return numbers
    return np.concatenate([numbers[:, :2] - 1, numbers[:, 2:] - numbers[:, :2] + 1], axis=1)


def _numbers(one: "TrueObject") -> tuple[float, float, float, float, float] | None:
    """The four numbers of a box and the object's area, NaN where it is not told; None where they are no box."""
    try:
        a, b, c, d = map(float, one.numbers)
    except (TypeError, ValueError, OverflowError):
        return None
    if not math.isfinite(a + b + c + d + c * d):
        return None
    return a, b, c, d, _number(one.area)


def _known(source: "Source", boxes: TruthBoxes, entries: Ints, unusable: list[int], images: int) -> Bools:
    """(N,) whether it is known which objects each image holds."""
    has_box = np.bincount(boxes.image, minlength=images) > 0
    if source.is_unattached():
        return has_box
    doubtful = np.zeros(images, bool)
    doubtful[entries[[*unusable, *source.incomplete]]] = True
    return has_box | ~doubtful


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
