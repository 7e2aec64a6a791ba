"""Image-level labels from a COCO JSON, which is streamed; its boxes are ignored."""

from collections.abc import Iterator
from pathlib import Path

from mining.corpus.formats.coco import ANNOTATIONS, CocoFile, id_number
from mining.corpus.formats.notes import unknown_images_notes
from mining.corpus.image_root import ImageRoot
from mining.corpus.listing import ListedImage, ListingInfo
from mining.corpus.sqlite_index import CocoImageIndex, CorpusIndex, ValuesById
from mining.corpus.summary import select_notes

_MAX_CATEGORY_ID = 2**31 - 1  # the tables of a run hold 32 bits


def read(path: Path, root: ImageRoot, index: CorpusIndex) -> ListingInfo:
    """Read the images with the categories of their annotations, and the sizes that the file states.

    If the file has annotations, an image without one is known to have none of the classes. Its labels are unknown if
    annotations could not be attached to an image, because one of them may belong to it.

    Raises:
        CorpusError: The JSON is malformed or lists no image, an id stands for two things, or no annotation can be used.
    """
    coco = CocoFile(path)
    categories = coco.categories()
    images, labels = index.create_coco_images(), index.create_values_by_id("coco_labels")
    coco.read_images(images)
    labels.add(_labels(coco, categories, images))
    coco.refuse_if_unusable(categories)
    unknown = [0]
    index.add_listed(_listed(coco, images, labels, unknown))
    return ListingInfo("coco", path, category_ids(categories), _notes(coco, index, unknown[0]))


def _labels(coco: CocoFile, categories: dict[str, str], images: CocoImageIndex) -> Iterator[tuple[str, str]]:
    for annotation in coco.annotations(categories, images):
        if annotation.category is None:
            images.mark_incomplete(annotation.image)
        else:
            yield annotation.image, annotation.category


def _listed(coco: CocoFile, images: CocoImageIndex, labels: ValuesById, unknown: list[int]) -> Iterator[ListedImage]:
    """The rows; counts in `unknown` the images whose labels are unknown."""
    is_labelled = coco.left_out.seen(ANNOTATIONS) > 0
    for key, name, number, width, height, is_incomplete in images:
        classes = labels.get(key) if is_labelled else None
        if is_labelled and not classes and (coco.unattached or is_incomplete):
            classes = None
            unknown[0] += 1
        yield ListedImage(name, classes, None, number, width, height)


def category_ids(categories: dict[str, str]) -> dict[str, int] | None:
    """Return class name to id; None if a class has no id that the tables hold."""
    ids: dict[str, int] = {}
    for key, name in categories.items():
        number = id_number(key)
        if number is not None and 0 <= number <= _MAX_CATEGORY_ID:
            ids[name] = min(number, ids.get(name, number))
    return ids if set(ids) == set(categories.values()) else None


def _notes(coco: CocoFile, index: CorpusIndex, unknown: int) -> list[str]:
    file = coco.path.name
    return (
        coco.notes()
        + unknown_images_notes(file, unknown)
        + select_notes(
            (not coco.left_out.seen(ANNOTATIONS), f"{file} has no annotations, so the labels are not known."),
            (not index.has_ids(), f"The image ids of {file} are not all whole numbers; images are renumbered from 1."),
        )
    )
