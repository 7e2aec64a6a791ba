"""Read boxes and their scores from a COCO data set, or from a COCO results list and the data set that it refers to."""

import math
from array import array
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mining.arrays import Floats, Ints
from mining.corpus.formats.coco import ANNOTATIONS, CATEGORIES, IMAGES, CocoAnnotation, CocoFile, CocoImage, ImagesByKey
from mining.corpus.formats.json_items import JSONFile
from mining.corpus.formats.notes import SkippedEntries
from mining.corpus.formats.parsing import is_flag_set
from mining.corpus.readers.coco import category_ids
from mining.errors import CorpusError, InputError
from mining.ground_truth.masks import box_from_segmentation
from mining.ground_truth.reading import NO_BOX, box_numbers

_CROWD = "mark a crowd (iscrowd), which is no single object"
_ROUNDING = 1e-4  # a score of 1 may have been computed as 1.0000001


@dataclass(frozen=True)
class CocoBoxes:
    """The n boxes of a COCO file, and its N images.

    Attributes:
        path: The file.
        listing: The file that lists images and categories; the same, unless `path` is a results list.
        images: The N images, as listed.
        sizes: (N, 2) float64 width and height in pixels; NaN where the file does not state them.
        classes: Class names, in the order of the file; of categories that share a name, once.
        category_ids: The file's id of each class; None if a class has no id that the tables of a run hold.
        image: (n,) int, position of each box's image among `images`.
        category: (n,) int, position of its class among `classes`.
        xywh: (n, 4) float64 boxes as written.
        scores: (n,) float64 in 0-1.
        has_scores: Whether the file states scores; otherwise all are 1.
        labels: How each box is named in messages.
        left_out: Collects what cannot be used.
        notes: Sentences on how the file was read; those of `left_out` not included.
    """

    path: Path
    listing: Path
    images: tuple[CocoImage, ...]
    sizes: Floats
    classes: tuple[str, ...]
    category_ids: dict[str, int] | None
    image: Ints
    category: Ints
    xywh: Floats
    scores: Floats
    has_scores: bool
    labels: list[str]
    left_out: SkippedEntries
    notes: tuple[str, ...]


class _Rows:
    """The boxes as they were read, column by column, because there may be millions; score NaN where none is written."""

    def __init__(self) -> None:
        self.image, self.category, self.numbers = array("q"), array("q"), array("d")
        self.labels: list[str] = []

    def add(self, image: int, category: int, xywh: tuple[float, float, float, float], score: float, label: str) -> None:
        self.image.append(image)
        self.category.append(category)
        self.numbers.extend((*xywh, score))
        self.labels.append(label)

    def columns(self) -> tuple[Ints, Ints, Floats]:
        """(n,) images, (n,) categories, (n, 5) x, y, width, height and score."""
        numbers = np.array(self.numbers, np.float64).reshape(-1, 5)
        return np.array(self.image, np.int64), np.array(self.category, np.int64), numbers


def read_coco_boxes(path: Path, dataset: Path | None = None) -> CocoBoxes:
    """Read the boxes of a COCO file.

    A box is an annotation's `bbox`, or the extent of its mask where it has no `bbox`. Entries that cannot be used are
    left out and counted.

    Args:
        path: A COCO data set, or a COCO results list.
        dataset: The data set whose images and categories a results list refers to.

    Raises:
        InputError: A results list comes without its data set, or a data set with one; some boxes have a score and
            others have none; a score is not between 0 and 1.
        CorpusError: A file is missing, is not COCO JSON, lists no image or no category, or no annotation can be used.
    """
    listing = _find_listing(path, dataset)
    listed = CocoFile(listing)
    categories, images = listed.categories(), ImagesByKey()
    listed.read_images(images)
    if not categories:
        raise CorpusError(f"{listing} lists no category. Add 'categories', each with an id and a name.")
    results = listed if listing == path else CocoFile(path, is_results=True)
    named = [image for image in images.by_key.values() if image.name]
    classes = tuple(dict.fromkeys(categories.values()))
    masks: list[str] = []
    rows = _read_rows(results, categories, images, named, classes, masks)
    results.refuse_if_unusable(categories)
    image, category, numbers = rows.columns()
    scores, has_scores, score_notes = _complete_scores(path, numbers[:, 4], rows.labels)
    notes = [*(listed.notes() if listed is not results else _shared_names(listed)), *score_notes]
    if masks:
        notes.append(f"Boxes that are the extent of a mask, because {path.name} has no bbox for it: {len(masks)}.")
    return CocoBoxes(
        path, listing, tuple(named), _sizes(named), classes, category_ids(categories),
        image, category, numbers[:, :4], scores, has_scores, rows.labels, results.left_out, tuple(notes),
    )  # fmt: skip


def _find_listing(path: Path, dataset: Path | None) -> Path:
    """The file that lists images and categories."""
    if JSONFile(path).is_list():
        if dataset is None:
            raise InputError(
                f"{path} is a list of COCO results, which has ids in place of image and class names. Add --dataset "
                "FILE, the COCO file that lists these images and categories."
            )
        _require_lists(dataset, (IMAGES, CATEGORIES))
        return dataset
    _require_lists(path, (IMAGES, ANNOTATIONS, CATEGORIES))
    if dataset is not None and dataset != path:
        raise InputError(f"{path} lists its images and categories itself. Leave --dataset {dataset} out.")
    return path


def _require_lists(path: Path, names: tuple[str, ...]) -> None:
    kinds = JSONFile(path).keys() or {}
    missing = [name for name in names if kinds.get(name) != "list"]
    if missing:
        raise CorpusError(
            f"{path} is not a COCO data set: it has no list {' and no list '.join(map(repr, missing))}. Give a COCO "
            "data set, or COCO results (a list) with the data set of their images as --dataset."
        )


def _read_rows(
    results: CocoFile, categories: dict[str, str], images: ImagesByKey, named: list[CocoImage],
    classes: tuple[str, ...], masks: list[str],
) -> _Rows:  # fmt: skip
    """The boxes that have four finite numbers; the labels of those that are the extent of a mask go into `masks`."""
    rows = _Rows()
    position = {image.key: place for place, image in enumerate(named)}
    index = {name: place for place, name in enumerate(classes)}
    for annotation in results.annotations(categories, images):
        if annotation.category is None:
            continue
        label = _label(annotation)
        if is_flag_set(annotation.entry.get("iscrowd")):
            results.left_out.add(ANNOTATIONS, _CROWD, label)
            continue
        place = position[annotation.image]
        box = box_numbers(_written_box(annotation.entry, named[place], label, masks))
        if box is None:
            results.left_out.add(ANNOTATIONS, NO_BOX, label)
            continue
        rows.add(place, index[annotation.category], box, _score(annotation.entry, results.path, label), label)
    return rows


def _label(annotation: CocoAnnotation) -> str:
    if annotation.entry.get("id") is not None:
        return annotation.label
    return f"a box of image {annotation.entry.get('image_id')!r}"


def _written_box(entry: dict[str, Any], image: CocoImage, label: str, masks: list[str]) -> Any:
    if entry.get("bbox") or not entry.get("segmentation"):
        return entry.get("bbox")
    box = box_from_segmentation(entry["segmentation"], image.width, image.height)
    if box is not None:
        masks.append(label)
    return box


def _score(entry: dict[str, Any], path: Path, label: str) -> float:
    """The score; NaN where there is none."""
    try:
        score = float(entry["score"])
    except (KeyError, TypeError, ValueError, OverflowError):
        return math.nan
    if math.isfinite(score) and not -_ROUNDING <= score <= 1 + _ROUNDING:
        raise InputError(
            f"{path}: the score of {label} is {score:g}; scores must be between 0 and 1. Divide percentages by 100; "
            "put other scores through a sigmoid."
        )
    return min(max(score, 0.0), 1.0) if math.isfinite(score) else math.nan


def _complete_scores(path: Path, scores: Floats, labels: list[str]) -> tuple[Floats, bool, list[str]]:
    """(n,) the scores, whether the file states them, and a note where it does not."""
    missing = ~np.isfinite(scores)
    if not missing.any():
        return scores, True, []
    if not missing.all():
        first = labels[int(np.flatnonzero(missing)[0])]
        raise InputError(
            f"{int(missing.sum())} of {len(scores)} boxes of {path} have no score, first {first}. Give every box a "
            "score, or none."
        )
    note = f"The boxes of {path.name} have no score: all get 1, so that minimum scores leave out none of them."
    return np.ones(len(scores)), False, [note]


def _sizes(named: list[CocoImage]) -> Floats:
    """(N, 2) sizes; NaN where they are not written as positive numbers."""

    def side(value: Any) -> float:
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        return float(value) if is_number and math.isfinite(value) and value > 0 else math.nan

    return np.array([[side(image.width), side(image.height)] for image in named], np.float64).reshape(-1, 2)


def _shared_names(coco: CocoFile) -> list[str]:
    own = set(coco.left_out.notes())
    return [note for note in coco.notes() if note not in own]
