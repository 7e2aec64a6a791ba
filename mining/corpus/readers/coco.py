"""A COCO JSON as image-level labels: the boxes in it are ignored. Streamed, so that its size does not matter."""

from collections.abc import Iterator
from pathlib import Path

from mining.corpus.formats.coco import ANNOTATIONS, CocoFile, id_number
from mining.corpus.formats.notes import unknown_images_notes
from mining.corpus.image_root import ImageRoot
from mining.corpus.listing import ListedImage, ListingInfo
from mining.corpus.sqlite_index import CocoImageIndex, CorpusIndex, ValuesById
from mining.corpus.summary import select_notes

_LARGEST_CATEGORY_ID = 2**31 - 1  # as the tables of a run hold it


def read(path: Path, root: ImageRoot, table: CorpusIndex) -> ListingInfo:
    """Take in the images with the categories of their annotations; sizes as the file states them.

    Where the file has annotations, an image without one is known to have none of the classes. It is unknown where
    annotations could not be attached to an image, because one of them may have been of this image.
    Raises CorpusError for broken JSON, no images, ids that stand for two things, or annotations none of which fits.
    """
    coco = CocoFile(path)
    categories = coco.categories()
    ids, labels = table.image_ids(), table.relation("coco_labels")
    coco.read_images(ids)
    labels.add(_labels(coco, categories, ids))
    coco.refuse_if_unusable(categories)
    unknown = [0]
    table.add_listed(_listed(coco, ids, labels, unknown))
    return ListingInfo("coco", path, _category_ids(categories), _notes(coco, table, unknown[0]))


def _labels(coco: CocoFile, categories: dict[str, str], ids: CocoImageIndex) -> Iterator[tuple[str, str]]:
    for annotation in coco.annotations(categories, ids):
        if annotation.category is None:
            ids.mark_incomplete(annotation.image)
        else:
            yield annotation.image, annotation.category


def _listed(coco: CocoFile, ids: CocoImageIndex, labels: ValuesById, unknown: list[int]) -> Iterator[ListedImage]:
    """The rows; counts in `unknown` the images that may have labels which could not be read."""
    is_labelled = coco.left_out.seen(ANNOTATIONS) > 0
    for key, name, number, width, height, is_incomplete in ids:
        known = labels.of(key) if is_labelled else None
        if is_labelled and not known and (coco.unattached or is_incomplete):
            known = None
            unknown[0] += 1
        yield ListedImage(name, known, None, number, width, height)


def _category_ids(categories: dict[str, str]) -> dict[str, int] | None:
    ids: dict[str, int] = {}
    for key, name in categories.items():
        number = id_number(key)
        if number is not None and 0 <= number <= _LARGEST_CATEGORY_ID:
            ids[name] = min(number, ids.get(name, number))
    return ids if set(ids) == set(categories.values()) else None


def _notes(coco: CocoFile, table: CorpusIndex, unknown: int) -> list[str]:
    file = coco.path.name
    return (
        coco.notes()
        + unknown_images_notes(file, unknown)
        + select_notes(
            (not coco.left_out.seen(ANNOTATIONS), f"{file} has no annotations, so no label is known."),
            (not table.has_ids(), f"The image ids of {file} are not all whole numbers; images are numbered anew."),
        )
    )
