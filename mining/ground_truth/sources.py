"""Ground truth as written in a COCO file, a folder of VOC XML or CUB list files, in one common form.

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
from mining.corpus.formats.coco import ANNOTATIONS, CocoFile, ImagesByKey
from mining.corpus.formats.notes import SkippedEntries, merged_images_notes, two_sizes_message, unknown_images_notes
from mining.corpus.formats.parsing import is_flag_set
from mining.corpus.listing import ListedImage
from mining.corpus.names import normalise_class_name
from mining.corpus.readers.voc import resolve_shared_names
from mining.corpus.sqlite_index import CorpusIndex
from mining.errors import CorpusError, ScoringError
from mining.ground_truth.masks import box_from_segmentation
from mining.storage.files import sha256_of
from mining.storage.integrity import check_file

REMEDY = "Pass a COCO file with the lists images, annotations and categories."
RUN_TRUTH_FILE = "truth.json"  # in the directory of a run with corrections
_RUN_FILE = "run.json"
_COCO_LISTS = ("images", "annotations", "categories")


class TrueObject(NamedTuple):
    """One annotation.

    Attributes:
        image: Position in the source's list of images.
        category: Class name.
        numbers: What should be x, y, width, height, as written.
        area: Area of the object, as written.
        is_ignored: Whether it is neither to be found nor wrong to find.
        is_crowd: COCO's iscrowd.
        label: Identifies the entry in messages; see `GroundTruthSource.name_of`.
    """

    image: int
    category: str
    numbers: Any
    area: Any
    is_ignored: bool
    is_crowd: bool
    label: Any


@dataclass
class GroundTruthSource:
    """A ground truth that is opened, its objects still to be read.

    Attributes:
        file: Name of the file or folder.
        sha256: SHA-256 of the file, or of the folder's files.
        images: Images as listed.
        sizes: Width and height of each image, as written.
        classes: Class names.
        objects: The annotations; can be iterated once.
        left_out: Collects what cannot be used.
        what: What `left_out` calls the annotations.
        notes: Returns sentences on what was left out, once all objects are read.
        incomplete: Images that may have an object that could not be read, once all objects are read.
        is_unattached: Returns whether objects without a known image were read.
        are_corners: Whether `numbers` are corners counted from 1, as in VOC.
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
        """Return how a message names an annotation."""
        return {ANNOTATIONS: f"annotation {label!r}", voc.OBJECTS: str(label)}.get(self.what, f"image {label}")

    def merging_notes(self, unknown: int) -> list[str]:
        """Return sentences on images that are listed twice, and on those whose objects are not known."""
        times = Counter(image.name for image in self.images)
        merged = sum(number > 1 for number in times.values())
        return [*merged_images_notes(self.file, merged, "boxes"), *unknown_images_notes(self.file, unknown)]

    def two_sizes(self, name: str) -> str:
        """Return the message for a name that is listed with two image sizes."""
        return two_sizes_message(self.file, name)


def open_source(path: Path, table: CorpusIndex) -> GroundTruthSource:
    """Open a ground truth; its objects are still to be read.

    Args:
        path: COCO JSON, folder of VOC XML, folder of CUB lists, CUB's list of boxes, or the directory of a run that
            `boxmine audit apply` made.
        table: An empty index in memory.

    Returns:
        The opened source.

    Raises:
        ScoringError: The path holds no ground truth.
        CorpusError: A list or an XML file is broken.
    """
    path = _in_run(path)
    if path.name == cub.BOXES:
        path = path.parent
    if not path.is_dir():
        return _coco(path)
    if cub.contains_cub(path):
        return _cub(path)
    if voc.contains_voc(path):
        return _voc(path, table)
    raise ScoringError(
        f"The folder {path} holds no ground truth: neither VOC XML nor CUB list files with {cub.BOXES}. Pass one of "
        "them, or a COCO file."
    )


def digest_of(path: Path) -> str:
    """Return the SHA-256 that identifies a ground truth: of its file, or of the files of a folder."""
    path = _in_run(path)
    if path.name == cub.BOXES or not path.is_dir():
        return sha256_of(path)
    return sha256_of(path / cub.BOXES) if cub.contains_cub(path) else _digest_of_xml(path)


def _in_run(path: Path) -> Path:
    """The ground truth of a run directory: what people saw in images that they looked at whole."""
    if not (path / _RUN_FILE).is_file():
        return path
    if not (path / RUN_TRUTH_FILE).is_file():
        raise ScoringError(
            f"The run {path} has no {RUN_TRUTH_FILE}: give the directory that `boxmine audit apply` made, after images "
            "were looked at whole."
        )
    return path / RUN_TRUTH_FILE


def _coco(path: Path) -> GroundTruthSource:
    if not path.exists():
        raise ScoringError(f"There is no ground truth file {path}. {REMEDY}")
    check_file(path)  # a run's annotations.json may serve as truth
    coco = CocoFile(path)
    try:
        categories, images = coco.categories(), ImagesByKey()
        coco.read_images(images)
        if not categories:
            raise CorpusError(f"{path} lists no category. {REMEDY}")
    except CorpusError as error:
        _refuse_other_json(coco)
        raise ScoringError(str(error)) from error
    named = [image for image in images.by_key.values() if image.name]
    position = {image.key: number for number, image in enumerate(named)}
    incomplete: set[int] = set()
    from_masks = Counter[str]()

    def objects() -> Iterator[TrueObject]:
        try:
            for annotation in coco.annotations(categories, images):
                entry, place = annotation.entry, position[annotation.image]
                if annotation.category is None:
                    incomplete.add(place)
                    continue
                is_crowd = is_flag_set(entry.get("iscrowd"))
                is_ignored = is_crowd or is_flag_set(entry.get("ignore")) or is_flag_set(entry.get("difficult"))
                numbers = entry.get("bbox")
                if not numbers and entry.get("segmentation"):
                    numbers = box_from_segmentation(entry["segmentation"], named[place].width, named[place].height)
                    from_masks["boxes"] += numbers is not None
                yield TrueObject(
                    place, annotation.category, numbers, entry.get("area"), is_ignored, is_crowd, entry.get("id")
                )
        except CorpusError as error:
            raise ScoringError(str(error)) from error
        if not coco.left_out.seen(ANNOTATIONS):
            _refuse_other_json(coco)

    return GroundTruthSource(
        path.name, digest_of(path), [ListedImage(image.name, None) for image in named],
        [(image.width, image.height) for image in named], set(categories.values()), objects(), coco.left_out,
        ANNOTATIONS, lambda: [*coco.notes(), *_note_on_masks(path.name, from_masks["boxes"])], incomplete,
        lambda: coco.unattached > 0,
    )  # fmt: skip


def _note_on_masks(file: str, boxes: int) -> list[str]:
    if not boxes:
        return []
    return [f"{boxes} annotations of {file} have a mask but no bbox; their boxes are the extents of the masks."]


def _refuse_other_json(coco: CocoFile) -> None:
    """Raise ScoringError where the file lacks one of COCO's lists."""
    path = coco.path
    try:
        kinds = coco.json.keys()
    except CorpusError as error:
        raise ScoringError(str(error)) from error
    if kinds is None:
        raise ScoringError(f"{path} is a list, as COCO detections are, or a single value; not ground truth. {REMEDY}")
    missing = [name for name in _COCO_LISTS if name not in kinds]
    if missing:
        raise ScoringError(f"{path} is not COCO ground truth: it has no {' and no '.join(missing)}. {REMEDY}")
    wrong = [name for name in _COCO_LISTS if kinds[name] != "list"]
    if wrong:
        raise ScoringError(f"{wrong[0]} in {path} is not a list. {REMEDY}")


def _cub(folder: Path) -> GroundTruthSource:
    """CUB's lists: one line `id x y width height` per image, in pixels counted from 0."""
    boxes = folder / cub.BOXES
    if not boxes.is_file():
        raise ScoringError(f"{folder} has no {cub.BOXES}, so there are no boxes to score against. Add that file.")
    lists = cub.CubLists(folder)
    classes = lists.classes()
    labels = dict(lists.labels(classes))
    images = list(lists.images())
    position = {identity: number for number, (identity, _) in enumerate(images)}
    what, incomplete = f"lines of {cub.BOXES}", set[int]()

    def objects() -> Iterator[TrueObject]:
        for identity, sides in cub.iter_entries(boxes):
            lists.left_out.see(what)
            if identity not in position or identity not in labels:
                file = cub.IMAGES if identity not in position else cub.LABELS
                lists.left_out.add(what, f"name an image that {file} does not list", f"image {identity}")
                if identity in position:
                    incomplete.add(position[identity])
                continue
            numbers = sides.split()
            yield TrueObject(position[identity], labels[identity], numbers, None, False, False, identity)

    return GroundTruthSource(
        cub.BOXES, digest_of(boxes), [ListedImage(name, None) for _, name in images], [(None, None)] * len(images),
        set(classes.values()), objects(), lists.left_out, what, lists.left_out.notes, incomplete, lambda: False,
    )  # fmt: skip


def _voc(path: Path, table: CorpusIndex) -> GroundTruthSource:
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

    return GroundTruthSource(
        path.name, digest_of(path), images, [(one.width, one.height) for one in found],
        {normalise_class_name(box.category) for one in found for box in one.objects}, objects(), folder.left_out,
        voc.OBJECTS,
        lambda: [*folder.notes(), *shared], {number for number, one in enumerate(found) if not one.is_complete},
        lambda: False, are_corners=True,
    )  # fmt: skip


def _digest_of_xml(folder: Path) -> str:
    """SHA-256 over the names and contents of the XML files."""
    whole = hashlib.sha256()
    for name in sorted(FileWalker(str(folder.resolve()), voc.XML)):
        whole.update(f"{name} {sha256_of(folder / name)}\n".encode())
    return whole.hexdigest()
