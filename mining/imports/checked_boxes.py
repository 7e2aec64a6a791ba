"""Match the boxes of an import with the images of the corpus, and keep those that fit."""

from dataclasses import dataclass
from pathlib import Path, PurePath

import numpy as np

from mining.arrays import Bools, Floats, Ints
from mining.corpus.formats.coco import ANNOTATIONS
from mining.ground_truth.box_formats import WrittenBoxes, check_box_format, is_in_first_pixel
from mining.ground_truth.matching import match_listed
from mining.ground_truth.reading import FIRST_PIXEL, NO_AREA, OUTSIDE, is_outside
from mining.imports.coco_boxes import CocoBoxes
from mining.imports.pictures import Picture

_UNUSABLE = "belong to an image that could not be used"
_DOUBLED = "repeat a box of the same image and class with at least its score"
_SMALLEST_PX = 0.01  # what exports round to
_NOTED_PX = 1.0
_SAME_SIZE_PX = 0.5


@dataclass(frozen=True)
class PlacedBoxes:
    """The k boxes that are imported, in the order of the corpus, best score first within an image.

    Attributes:
        row: (k,) int, row of the corpus table.
        category: (k,) int, position among the classes of the file.
        xywh: (k, 4) float64 pixels, inside the image.
        scores: (k,) float64 in 0-1.
    """

    row: Ints
    category: Ints
    xywh: Floats
    scores: Floats


def match_rows(boxes: CocoBoxes, names: list[str], root: Path) -> Ints:
    """Return for each listed image its row among the file names of the corpus, -1 where there is none."""
    listed = [image.name for image in boxes.images]
    return match_listed(listed, (None,) * len(listed), names, boxes.listing.name, PurePath(root)).position


def check_sizes(boxes: CocoBoxes, rows: Ints, pictures: list[Picture]) -> tuple[list[Picture], list[str]]:
    """Give images whose listed size is another than the decoded one a reason, and return a note on turned ones."""
    checked, turned = list(pictures), []
    for place, row in enumerate(rows.tolist()):
        picture = pictures[row] if row >= 0 else Picture()
        if picture.width is None or not np.isfinite(boxes.sizes[place]).all():
            continue
        decoded = np.array([picture.width, picture.height], np.float64)
        if np.abs(boxes.sizes[place] - decoded).max() <= _SAME_SIZE_PX:
            continue
        if (boxes.sizes[place][::-1] == decoded).all():
            turned.append(boxes.images[place].name)
            continue
        checked[row] = picture._replace(reason=_other_size(boxes, place, picture))
    if not turned:
        return checked, []
    return checked, [
        f"Images with width and height swapped in {boxes.listing.name}: {len(turned)}, first {turned[0]!r}; their "
        "boxes are taken as boxes on the image as it is displayed."
    ]


def _other_size(boxes: CocoBoxes, place: int, picture: Picture) -> str:
    width, height = boxes.sizes[place]
    return (
        f"{boxes.images[place].name}: is {picture.width} x {picture.height} px, but {boxes.listing.name} lists it with "
        f"{width:g} x {height:g} px, so that its boxes do not fit. Give --images the images that the boxes are of."
    )


def place_boxes(boxes: CocoBoxes, rows: Ints, pictures: list[Picture]) -> tuple[PlacedBoxes, list[str]]:
    """Keep the boxes of usable images, clipped to them; the others are counted in `boxes.left_out`.

    Args:
        boxes: The boxes as written.
        rows: (N,) row of the corpus table of each listed image; -1 for none.
        pictures: The image of each row.

    Returns:
        The boxes, and a note on those that were clipped.

    Raises:
        ScoringError: The boxes are clearly not x, y, width, height in pixels.
    """
    row = rows[boxes.image]
    is_usable = np.array([picture.reason is None for picture in pictures] + [False])[row]
    sizes = np.array([(one.width or np.nan, one.height or np.nan) for one in pictures] + [(np.nan, np.nan)])[row]
    has_area = (boxes.xywh[:, 2:] > 0).all(axis=1)
    check_box_format(boxes.path.name, WrittenBoxes(boxes.xywh[is_usable & has_area], sizes[is_usable & has_area]))
    clipped = _clip(boxes.xywh, sizes)
    keep = np.ones(len(row), bool)
    for why, flags in (
        (_UNUSABLE, ~is_usable),
        (NO_AREA, ~has_area),
        (FIRST_PIXEL, is_in_first_pixel(boxes.xywh)),
        (OUTSIDE, is_outside(boxes.xywh, sizes) | (clipped[:, 2:] < _SMALLEST_PX).any(axis=1)),
    ):
        _leave_out(boxes, why, flags & keep)
        keep &= ~flags
    doubled = _is_doubled(row, boxes.category, clipped, boxes.scores, keep)
    _leave_out(boxes, _DOUBLED, doubled)
    kept = np.flatnonzero(keep & ~doubled)
    kept = kept[np.lexsort((-boxes.scores[kept], row[kept]))]
    placed = PlacedBoxes(row[kept], boxes.category[kept], clipped[kept], boxes.scores[kept])
    return placed, _note_on_clipped(boxes, kept, sizes)


def _clip(xywh: Floats, sizes: Floats) -> Floats:
    """(n, 4) the boxes without what lies outside of their images."""
    low = np.clip(xywh[:, :2], 0, sizes)
    high = np.clip(xywh[:, :2] + xywh[:, 2:], 0, sizes)
    return np.concatenate([low, high - low], axis=1)


def _leave_out(boxes: CocoBoxes, why: str, flags: Bools) -> None:
    for place in np.flatnonzero(flags):
        boxes.left_out.add(ANNOTATIONS, why, boxes.labels[place])


def _is_doubled(row: Ints, category: Ints, xywh: Floats, scores: Floats, keep: Bools) -> Bools:
    """(n,) whether a kept box has the edges of another one with a higher score, or of an earlier one with the same."""
    order = np.lexsort((-scores, ~keep))
    keys = np.column_stack([row, category, np.round(xywh, 2), ~keep])[order]
    doubled = np.ones(len(row), bool)
    if len(row):
        doubled[order[np.unique(keys, axis=0, return_index=True)[1]]] = False
    return doubled & keep


def _note_on_clipped(boxes: CocoBoxes, kept: Ints, sizes: Floats) -> list[str]:
    xywh, limits = boxes.xywh[kept], sizes[kept]
    beyond = np.maximum(-xywh[:, :2], xywh[:, :2] + xywh[:, 2:] - limits).max(axis=1, initial=0.0)
    number = int((beyond > _NOTED_PX).sum())
    if not number:
        return []
    first = boxes.labels[kept[int(np.argmax(beyond > _NOTED_PX))]]
    return [
        f"{number} of {len(kept)} boxes of {boxes.path.name} extend beyond their image, first {first}; clipped to it."
    ]
