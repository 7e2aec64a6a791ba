"""True boxes as a COCO file, a folder of VOC XML or CUB list files hold them, in terms that all three share.

The formats are read by the same readers as labels (`mining.corpus.formats`).
"""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from mining.corpus.file_walker import FileWalker
from mining.corpus.formats import cub, voc
from mining.corpus.formats.coco import ANNOTATIONS, CocoFile, CocoImage
from mining.corpus.formats.notes import SkippedEntries, merged_images_notes, two_sizes_message, unknown_images_notes
from mining.corpus.formats.parsing import is_flag_set
from mining.corpus.listing import ListedImage
from mining.corpus.names import normalise_class_name
from mining.corpus.readers.voc import resolve_shared_names
from mining.corpus.sqlite_index import CorpusIndex
from mining.errors import CorpusError, ScoringError
from mining.storage.files import sha256_of
from mining.storage.integrity import check_file

REMEDY = "Give a COCO file with the lists images, annotations and categories."
_COCO_LISTS = ("images", "annotations", "categories")


class TrueObject(NamedTuple):
    """One annotation. image: position in the source's images. numbers: what should be x, y, width, height.

    area: as written. label: names the entry, see `Source.name_of`.
    """

    image: int
    category: str
    numbers: Any
    area: Any
    is_ignored: bool
    is_crowd: bool
    label: Any


@dataclass
class Source:
    """What a truth holds.

    file, sha256: name and SHA-256 of the file, or of the folder. images: as listed; their widths and heights as
    written. objects: to be read once. what: what `left_out` calls the annotations. notes: sentences on what was left
    out, once all is read. are_corners: whether the format has corners counted from 1, as VOC has. is_incomplete:
    whether, once all is read, an image without a box may have one that could not be read.
    """

    file: str
    sha256: str
    images: list[ListedImage]
    sizes: list[tuple[Any, Any]]
    classes: set[str]
    objects: Iterator[TrueObject]
    left_out: SkippedEntries
    what: str
    notes: Callable[[], list[str]]
    incomplete: set[int]
    is_unattached: Callable[[], bool]
    are_corners: bool = False

    def name_of(self, label: Any) -> str:
        """How to name an annotation in a sentence."""
        return {ANNOTATIONS: f"annotation {label!r}", voc.OBJECTS: str(label)}.get(self.what, f"image {label}")

    def merging_notes(self, unknown: int) -> list[str]:
        """Sentences on images that are listed twice, and on those of which it is not known what they hold."""
        times = Counter(image.name for image in self.images)
        merged = sum(number > 1 for number in times.values())
        return [*merged_images_notes(self.file, merged, "boxes"), *unknown_images_notes(self.file, unknown)]

    def two_sizes(self, name: str) -> str:
        """What to say where one name stands for images of two sizes."""
        return two_sizes_message(self.file, name)


def open_source(path: Path, table: CorpusIndex) -> Source:
    """Open a truth; the objects are still to be read. table: empty tables in memory.

    Raises ScoringError for what is no truth, and CorpusError for a list or an XML that is broken.
    """
    if path.name == cub.BOXES:
        path = path.parent
    if not path.is_dir():
        return _coco(path)
    if cub.contains_cub(path):
        return _cub(path)
    if voc.contains_voc(path):
        return _voc(path, table)
    raise ScoringError(
        f"The folder {path} holds no truth: neither VOC XML nor CUB list files with {cub.BOXES}. Give one of them, or "
        "a COCO file."
    )


class _Images:
    """The images of a COCO file by their keys."""

    def __init__(self) -> None:
        self.by_key: dict[str, CocoImage] = {}

    def get(self, key: str) -> str | None:
        """The name of an image, None where there is no such key."""
        image = self.by_key.get(key)
        return None if image is None else image.name

    def add(self, image: CocoImage) -> str | None:
        """Keep an image under its key. Where the key has a name, that stays, and is given back."""
        earlier = self.get(image.key)
        if not earlier:
            self.by_key[image.key] = image
        return earlier or None


def _coco(path: Path) -> Source:
    if not path.exists():
        raise ScoringError(f"There is no truth file {path}. {REMEDY}")
    check_file(path)  # a run's annotations.json may serve as truth
    coco = CocoFile(path)
    try:
        categories, images = coco.categories(), _Images()
        coco.read_images(images)
        if not categories:
            raise CorpusError(f"{path} lists no category. {REMEDY}")
    except CorpusError as error:
        _refuse_other_json(coco)
        raise ScoringError(str(error)) from error
    found = [image for image in images.by_key.values() if image.name]
    place = {image.key: number for number, image in enumerate(found)}
    incomplete: set[int] = set()

    def objects() -> Iterator[TrueObject]:
        try:
            for one in coco.annotations(categories, images):
                if one.category is None:
                    incomplete.add(place[one.image])
                    continue
                crowd = is_flag_set(one.entry.get("iscrowd"))
                ignored = crowd or is_flag_set(one.entry.get("ignore")) or is_flag_set(one.entry.get("difficult"))
                numbers, area = one.entry.get("bbox"), one.entry.get("area")
                image = place[one.image]
                yield TrueObject(image, one.category, numbers, area, ignored, crowd, one.entry.get("id"))
        except CorpusError as error:
            raise ScoringError(str(error)) from error
        if not coco.left_out.seen(ANNOTATIONS):
            _refuse_other_json(coco)

    return Source(
        path.name, sha256_of(path), [ListedImage(image.name, None) for image in found],
        [(image.width, image.height) for image in found], set(categories.values()), objects(), coco.left_out,
        ANNOTATIONS, coco.notes, incomplete, lambda: coco.unattached > 0,
    )  # fmt: skip


def _refuse_other_json(coco: CocoFile) -> None:
    """Raise ScoringError where the file lacks one of COCO's lists."""
    path = coco.path
    try:
        kinds = coco.json.keys()
    except CorpusError as error:
        raise ScoringError(str(error)) from error
    if kinds is None:
        raise ScoringError(f"{path} is a list, as COCO detections are, or a single value, and no truth. {REMEDY}")
    missing = [name for name in _COCO_LISTS if name not in kinds]
    if missing:
        raise ScoringError(f"{path} is not a COCO truth: it has no {' and no '.join(missing)}. {REMEDY}")
    wrong = [name for name in _COCO_LISTS if kinds[name] != "list"]
    if wrong:
        raise ScoringError(f"{wrong[0]} in {path} is not a list. {REMEDY}")


def _cub(folder: Path) -> Source:
    """CUB's lists: a line `id x y width height` for each image, in pixels counted from 0."""
    boxes = folder / cub.BOXES
    if not boxes.is_file():
        raise ScoringError(f"{folder} has no {cub.BOXES}, so there are no boxes to score against. Add it.")
    lists = cub.CubLists(folder)
    classes = lists.classes()
    labels = dict(lists.labels(classes))
    found = list(lists.images())
    place = {identity: number for number, (identity, _) in enumerate(found)}
    what, incomplete = f"lines of {cub.BOXES}", set[int]()

    def objects() -> Iterator[TrueObject]:
        for identity, sides in cub.iter_entries(boxes):
            lists.left_out.see(what)
            if identity not in place or identity not in labels:
                file = cub.IMAGES if identity not in place else cub.LABELS
                lists.left_out.add(what, f"name an image that {file} does not list", f"image {identity}")
                if identity in place:
                    incomplete.add(place[identity])
                continue
            numbers = sides.split()
            yield TrueObject(place[identity], labels[identity], numbers, None, False, False, identity)

    return Source(
        cub.BOXES, sha256_of(boxes), [ListedImage(name, None) for _, name in found], [(None, None)] * len(found),
        set(classes.values()), objects(), lists.left_out, what, lists.left_out.notes, incomplete, lambda: False,
    )  # fmt: skip


def _voc(path: Path, table: CorpusIndex) -> Source:
    folder = voc.VocFolder(path)
    found = list(folder.annotations(in_order=True))
    table.add_listed(ListedImage(one.name, None, own_name=one.own_name) for one in found)
    shared = resolve_shared_names(table, path.name)
    named = [name for _, name, _ in table.names_by_row()]
    images = [
        ListedImage(name, None, own_name=one.own_name if name == one.name else None)
        for name, one in zip(named, found, strict=True)
    ]

    def objects() -> Iterator[TrueObject]:
        for number, one in enumerate(found):
            for box in one.objects:
                yield TrueObject(number, box.category, box.corners, None, box.is_difficult, False, one.xml)

    return Source(
        path.name, _digest(path), images, [(one.width, one.height) for one in found],
        {normalise_class_name(box.category) for one in found for box in one.objects}, objects(), folder.left_out,
        voc.OBJECTS,
        lambda: [*folder.notes(), *shared], {number for number, one in enumerate(found) if not one.is_complete},
        lambda: False, are_corners=True,
    )  # fmt: skip


def _digest(folder: Path) -> str:
    """SHA-256 over the names and contents of the XML files."""
    whole = hashlib.sha256()
    for name in sorted(FileWalker(str(folder.resolve()), voc.XML)):
        whole.update(f"{name} {sha256_of(folder / name)}\n".encode())
    return whole.hexdigest()
