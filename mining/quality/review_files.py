"""Read back what a person did with the boxes of a run in Label Studio or CVAT."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from mining.boxes.iou import iou_matrix
from mining.corpus.names import normalise_class_name
from mining.errors import InputError
from mining.quality.cvat_file import read_cvat
from mining.quality.label_studio_file import read_label_studio
from mining.quality.review_keys import run_key, split_box_key
from mining.quality.review_shapes import DrawnBox, Edges, ReviewedImage, ReviewFile
from mining.runs.reading import iter_boxed, iter_boxes, iter_images
from mining.runs.rows import BoxedImage, BoxRow
from mining.runs.run import Run

SAME_PX = 0.5  # edges that are nearer were not moved on purpose
SMALLEST_PX = 1.0  # of a box that was added
SAME_IOU = 0.5  # of a drawn box with the mined box that it is taken for, where its key was lost
ReviewVerdict = Literal["correct", "wrong_class", "nothing", "missed", "unsure"]


class ReviewedBox(NamedTuple):
    """What a person says of one box.

    Attributes:
        annotation_id: The mined box; None for a box that the person added.
        file_name: Its image.
        category: Its class: what the person says, or the mined one where the box was deleted; empty for an added box
            without a class.
        x: Left edge in px: as the person left it; exactly as mined where it was not moved or was deleted.
        y: Top edge.
        w: Width.
        h: Height.
        verdict: correct = kept, possibly moved; wrong_class = kept with another class; nothing = deleted; missed =
            added; unsure = kept without any class.
    """

    annotation_id: int | None
    file_name: str
    category: str
    x: float
    y: float
    w: float
    h: float
    verdict: ReviewVerdict


@dataclass(frozen=True)
class Review:
    """What a person did with the boxes of a run.

    Attributes:
        tool: Name of the tool.
        boxes: One record per box that was shown or added, by image.
        images: File names of the images that were looked at whole.
        notes: Sentences on what was left out.
    """

    tool: str
    boxes: list[ReviewedBox]
    images: list[str]
    notes: list[str]


def read_review(path: Path, run: Run, *, min_score: float = 0.0) -> Review:
    """Read a file that Label Studio (JSON) or CVAT (CVAT for images 1.1) exported after a review.

    A box of the run counts as deleted if its image was looked at, the box was shown, and it is not there any more. A
    drawn box is recognised by its key; one whose key was lost is taken for the mined box that it overlaps most, with an
    IoU of at least SAME_IOU.

    Args:
        path: The file.
        run: The run that was exported for review.
        min_score: The minimum score of that export. CVAT's file does not say which boxes were shown.

    Raises:
        InputError: The file cannot be read, is no such export, is of another run, or has none of the run's images.
    """
    review = _open(path)
    images = list(review.images)
    key = run_key(run)
    _refuse_other_run(path, images, key)
    seen, unknown = _by_name(images, {image.file_name for image in iter_images(run.corpus)})
    if not seen:
        first = images[0].names[0] if images else None
        raise InputError(
            f"{path} has no image that was looked at."
            if first is None
            else f"No image of {path} is in the run {run.path}, first {first!r}. Give the run that was exported."
        )
    boxes: list[ReviewedBox] = []
    for boxed in iter_boxed(iter_images(run.corpus), iter_boxes(run.annotations)):
        image = seen.get(boxed.image.file_name)
        if image is not None:
            boxes += _judge(boxed, image, key, min_score)
    kept = [box for box in boxes if box.verdict != "missed" or min(box.w, box.h) >= SMALLEST_PX]
    notes = [*review.notes, *_note_on_unknown(path, unknown)]
    if len(kept) < len(boxes):
        notes.append(f"Added boxes of {path.name} without an area, left out: {len(boxes) - len(kept)}.")
    return Review(review.tool, kept, sorted(seen), notes)


def _open(path: Path) -> ReviewFile:
    try:
        with path.open("rb") as file:
            start = file.read(64).removeprefix(b"\xef\xbb\xbf").lstrip()
    except OSError as error:
        raise InputError(f"Cannot read {path}: {error.strerror}.") from None
    if start.startswith(b"PK"):
        raise InputError(f"{path} is a zip archive. Unpack it, and give the XML or JSON file in it.")
    return read_cvat(path) if start.startswith(b"<") else read_label_studio(path)


def _refuse_other_run(path: Path, images: list[ReviewedImage], key: str) -> None:
    keys = {image.run for image in images if image.run is not None}
    keys |= {found[0] for image in images for box in image.boxes if (found := split_box_key(box.key)) is not None}
    if keys and key not in keys:
        raise InputError(f"{path} is a review of the boxes of another run. Give the run that was exported.")


def _by_name(images: list[ReviewedImage], known: set[str]) -> tuple[dict[str, ReviewedImage], list[str]]:
    """The images by their name in the run, and the names of those that the run does not have."""
    seen: dict[str, ReviewedImage] = {}
    unknown = []
    for image in images:
        name = next((name for name in image.names if name in known), None)
        if name is None:
            unknown.append(image.names[0])
        else:
            seen[name] = image
    return seen, unknown


def _note_on_unknown(path: Path, unknown: list[str]) -> list[str]:
    if not unknown:
        return []
    return [f"Images of {path.name} that are not in the run, left out: {len(unknown)}, first {unknown[0]!r}."]


# --- one image -------------------------------------------------------------------------------------------------------


def _judge(boxed: BoxedImage, image: ReviewedImage, key: str, min_score: float) -> Iterator[ReviewedBox]:
    """The records of one image: those of its mined boxes, then those of boxes that were added."""
    shown = {box.annotation_id: box for box in boxed.boxes if _is_shown(box, image, min_score)}
    drawn = [_in_pixels(box, image, boxed) for box in image.boxes]
    partner = _match_by_key(drawn, shown, key)
    _match_by_overlap(drawn, shown, partner)
    drawn_of = {annotation_id: drawn[place] for place, annotation_id in partner.items()}
    for annotation_id, mined in shown.items():
        yield _verdict(boxed.image.file_name, mined, drawn_of.get(annotation_id))
    for place, box in enumerate(drawn):
        if place not in partner:
            yield _record(None, boxed.image.file_name, box.category or "", box.xyxy, "missed")


def _is_shown(box: BoxRow, image: ReviewedImage, min_score: float) -> bool:
    return box.score >= min_score - 1e-6 if image.shown is None else box.annotation_id in image.shown


def _in_pixels(box: DrawnBox, image: ReviewedImage, boxed: BoxedImage) -> DrawnBox:
    """The box in pixels, inside the image."""
    width, height = boxed.image.width, boxed.image.height
    x, y = (width, height) if image.is_relative else (1, 1)
    edges = (box.xyxy[0] * x, box.xyxy[1] * y, box.xyxy[2] * x, box.xyxy[3] * y)
    x0, x1 = (round(min(max(edge, 0.0), width), 2) for edge in edges[::2])
    y0, y1 = (round(min(max(edge, 0.0), height), 2) for edge in edges[1::2])
    return box._replace(xyxy=(x0, y0, x1, y1))


def _match_by_key(drawn: list[DrawnBox], shown: Mapping[int, BoxRow], key: str) -> dict[int, int]:
    """From the place of a drawn box to the mined one that its key names; of copies, the nearest one."""
    claims: dict[int, list[int]] = {}
    for place, box in enumerate(drawn):
        found = split_box_key(box.key)
        if found is not None and found[0] == key and found[1] in shown:
            claims.setdefault(found[1], []).append(place)
    partner = {}
    for annotation_id, places in claims.items():
        overlap = iou_matrix([drawn[place].xyxy for place in places], [_edges(shown[annotation_id])])[:, 0]
        partner[places[int(np.argmax(overlap))]] = annotation_id
    return partner


def _match_by_overlap(drawn: list[DrawnBox], shown: Mapping[int, BoxRow], partner: dict[int, int]) -> None:
    """Add the other pairs of a drawn and a mined box, those of the same class and of the highest IoU first."""
    places = [place for place in range(len(drawn)) if place not in partner]
    ids = [annotation_id for annotation_id in shown if annotation_id not in partner.values()]
    if not places or not ids:
        return
    overlap = iou_matrix([drawn[place].xyxy for place in places], [_edges(shown[one]) for one in ids])
    pairs = sorted(
        (not _is_class(drawn[places[row]], shown[ids[column]]), -overlap[row, column], row, column)
        for row, column in np.argwhere(overlap >= SAME_IOU).tolist()
    )
    taken: set[int] = set()
    for _, _, row, column in pairs:
        if places[row] not in partner and ids[column] not in taken:
            partner[places[row]] = ids[column]
            taken.add(ids[column])


def _edges(box: BoxRow) -> Edges:
    return box.x0, box.y0, box.x1, box.y1


def _is_class(drawn: DrawnBox, mined: BoxRow) -> bool:
    return normalise_class_name(drawn.category or "") == normalise_class_name(mined.category)


def _verdict(file_name: str, mined: BoxRow, drawn: DrawnBox | None) -> ReviewedBox:
    if drawn is None:
        return _record(mined.annotation_id, file_name, mined.category, _edges(mined), "nothing")
    is_moved = any(abs(a - b) > SAME_PX for a, b in zip(drawn.xyxy, _edges(mined), strict=True))
    xyxy = drawn.xyxy if is_moved else _edges(mined)
    if drawn.category is None:
        return _record(mined.annotation_id, file_name, mined.category, xyxy, "unsure")
    if _is_class(drawn, mined):
        return _record(mined.annotation_id, file_name, mined.category, xyxy, "correct")
    return _record(mined.annotation_id, file_name, normalise_class_name(drawn.category), xyxy, "wrong_class")


def _record(
    annotation_id: int | None, file_name: str, category: str, xyxy: Edges, verdict: ReviewVerdict
) -> ReviewedBox:
    x0, y0, x1, y1 = xyxy
    return ReviewedBox(annotation_id, file_name, category, x0, y0, round(x1 - x0, 2), round(y1 - y0, 2), verdict)
