"""The truth: a COCO JSON file with boxes, a folder of VOC XML or of CUB list files, read into arrays.

Annotations marked `iscrowd`, `ignore` or `difficult` become ignored boxes: neither to be found nor wrong to find.
"""

import math
from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from mining.errors import ScoringError
from mining.files import sha256_of
from mining.integrity import check_file
from mining.scoring.boxes import Floats, Ints, TruthBoxes
from mining.untrusted import read_json

CUB_BOXES = "bounding_boxes.txt"
_SECTIONS = ("images", "annotations", "categories")
_REMEDY = "Give a COCO file with the lists images, annotations and categories."

_NO_OBJECT = "are not JSON objects"
_NO_IMAGE = "name an image_id that the file does not list"
_NO_CATEGORY = "name a category_id that the file does not list"
_NO_BOX = "have no bbox of four numbers"
_NO_AREA = "have a bbox without area"
_OUTSIDE = "have a bbox that lies wholly outside their image"

_Row = tuple[int, int, float, float, float, float, float, bool, bool]


@dataclass(frozen=True)
class Truth:
    """What a truth file says.

    file, sha256: name and SHA-256 of the file, or of the folder of VOC XML.
    file_names: of the N images, ascending, '/' between the parts.
    sizes: (N, 2) float64 width and height in pixels; NaN where the file does not tell.
    classes: class names, ascending.
    boxes: the usable boxes; `image` and `category` count into file_names and classes.
    notes: one sentence for each kind of thing that was left out.
    """

    file: str
    sha256: str
    file_names: tuple[str, ...]
    sizes: Floats
    classes: tuple[str, ...]
    boxes: TruthBoxes
    notes: tuple[str, ...] = ()

    def subset(self, images: Ints, classes: Ints) -> "Truth":
        """The same truth for some images and classes only, given by position, in that order."""
        image = _positions(len(self.file_names), images)[self.boxes.image]
        category = _positions(len(self.classes), classes)[self.boxes.category]
        keep = (image >= 0) & (category >= 0)
        kept = replace(self.boxes.where(keep), image=image[keep], category=category[keep])
        names, class_names = (
            tuple(np.array(x, object)[i]) for x, i in ((self.file_names, images), (self.classes, classes))
        )
        return replace(self, file_names=names, sizes=self.sizes[images], classes=class_names, boxes=kept)


def read_truth(path: Path) -> Truth:
    """Read the boxes of a COCO JSON file, of a folder of VOC XML, or of CUB's list files.

    path: of CUB the folder, or the list of boxes in it.
    What cannot be used (annotations of unknown images or categories, without box, without area, outside their
    image) is left out and counted in `notes`.
    Raises ScoringError when the file is missing, is not JSON, is not COCO, has doubled names, or has
    annotations of which none can be used, and CorpusError when a list of CUB or an XML is broken.
    """
    file, digest, content = _read(path)
    images, categories, annotations = (
        _section(content, name, path) for name in ("images", "categories", "annotations")
    )
    names, sizes, image_of_id, notes = _read_images(images, path)
    classes, class_of_id = _read_categories(categories, path)
    boxes, reasons = _read_boxes(annotations, image_of_id, class_of_id, sizes)
    if annotations and not len(boxes):
        raise ScoringError(f"No annotation of {path} can be used: {_told(reasons)}. {_REMEDY}")
    notes += [
        f"{count} of {len(annotations)} annotations of the truth {why}; left out." for why, count in reasons.items()
    ]
    return Truth(file, digest, names, sizes, classes, boxes, tuple(notes))


def normal_name(file_name: str) -> str:
    """A file name with '/' between its parts and no './' in front."""
    return file_name.replace("\\", "/").removeprefix("./")


def _read(path: Path) -> tuple[str, str, dict[str, Any]]:
    """Name and SHA-256 of the truth, and its content in COCO's terms."""
    if path.is_dir() or path.name == CUB_BOXES:
        from mining.scoring.truth_folders import read_folder  # with the corpus' readers, which take their time

        return read_folder(path if path.is_dir() else path.parent)
    content = _read_json(path)
    return path.name, sha256_of(path), content


def _read_json(path: Path) -> dict[str, Any]:
    check_file(path)  # a run's annotations.json may serve as truth
    try:
        content = read_json(path, limit=None)
    except FileNotFoundError:
        raise ScoringError(f"There is no truth file {path}. {_REMEDY}") from None
    except OSError as error:
        raise ScoringError(f"Cannot read {path}: {error.strerror}. {_REMEDY}") from None
    except (ValueError, RecursionError) as error:
        raise ScoringError(f"{path} is not readable as JSON ({error}). {_REMEDY}") from error
    if isinstance(content, list):
        raise ScoringError(f"{path} is a list, as COCO detections are, and no truth. {_REMEDY}")
    missing = [name for name in _SECTIONS if not isinstance(content, dict) or name not in content]
    if missing:
        raise ScoringError(f"{path} is not a COCO truth: it has no {' and no '.join(missing)}. {_REMEDY}")
    return dict(content)


def _section(content: Mapping[str, Any], name: str, path: Path) -> list[Any]:
    section = content[name]
    if not isinstance(section, list):
        raise ScoringError(f"{name} in {path} is not a list. {_REMEDY}")
    if not section and name != "annotations":
        raise ScoringError(f"{name} in {path} is empty. {_REMEDY}")
    return section


def _read_images(images: Sequence[Any], path: Path) -> tuple[tuple[str, ...], Floats, dict[Hashable, int], list[str]]:
    """Names ascending, sizes (N, 2), position by id, and notes."""
    usable = [i for i in images if isinstance(i, dict) and _is_id(i.get("id")) and isinstance(i.get("file_name"), str)]
    if not usable:
        raise ScoringError(f"No image in {path} has an id and a file_name. {_REMEDY}")
    _refuse_doubles((i["id"] for i in usable), "image id", path)
    _refuse_doubles((normal_name(i["file_name"]) for i in usable), "file name", path)
    usable.sort(key=lambda i: normal_name(i["file_name"]))
    names = tuple(normal_name(i["file_name"]) for i in usable)
    sizes = np.array([[_positive(i.get("width")), _positive(i.get("height"))] for i in usable])
    left_out = len(images) - len(usable)
    notes = (
        [f"{left_out} of {len(images)} images of the truth have no id or no file_name; left out."] if left_out else []
    )
    return names, sizes, {i["id"]: position for position, i in enumerate(usable)}, notes


def _read_categories(categories: Sequence[Any], path: Path) -> tuple[tuple[str, ...], dict[Hashable, int]]:
    """Class names ascending, and position by id; ids that share a name are one class."""
    for category in categories:
        if not (isinstance(category, dict) and _is_id(category.get("id")) and isinstance(category.get("name"), str)):
            raise ScoringError(f"A category in {path} has no id or no name: {str(category)[:80]}. {_REMEDY}")
    _refuse_doubles((c["id"] for c in categories), "category id", path)
    classes = tuple(sorted({c["name"] for c in categories}))
    position = {name: i for i, name in enumerate(classes)}
    return classes, {c["id"]: position[c["name"]] for c in categories}


def _read_boxes(
    annotations: Sequence[Any], image_of_id: dict[Hashable, int], class_of_id: dict[Hashable, int], sizes: Floats
) -> tuple[TruthBoxes, Counter[str]]:
    """The usable boxes, and how many were left out for each reason."""
    read = [_row(annotation, image_of_id, class_of_id) for annotation in annotations]
    reasons = Counter(row for row in read if isinstance(row, str))
    rows = [row for row in read if not isinstance(row, str)]
    columns = [np.array(column) for column in zip(*rows, strict=True)] or [np.empty(0)] * 9
    image, category, x, y, w, h, area, is_ignored, is_crowd = columns
    boxes = TruthBoxes(
        image, category, np.stack([x, y, w, h], axis=1), area, is_ignored.astype(bool), is_crowd.astype(bool)
    )
    width, height = sizes[boxes.image].T
    empty = ~((w > 0) & (h > 0))
    # sizes that are not told are NaN, and NaN compares as inside
    outside = ~empty & ((x >= width) | (y >= height) | (x + w <= 0) | (y + h <= 0))
    reasons.update({_NO_AREA: int(empty.sum()), _OUTSIDE: int(outside.sum())})
    return boxes.where(~empty & ~outside), +reasons


def _row(annotation: Any, image_of_id: dict[Hashable, int], class_of_id: dict[Hashable, int]) -> _Row | str:
    """image, category, x, y, w, h, area, is_ignored, is_crowd; or why the annotation cannot be used."""
    if not isinstance(annotation, dict):
        return _NO_OBJECT
    image = _looked_up(image_of_id, annotation.get("image_id"))
    category = _looked_up(class_of_id, annotation.get("category_id"))
    if image is None or category is None:
        return _NO_IMAGE if image is None else _NO_CATEGORY
    try:
        x, y, w, h = map(float, annotation["bbox"])
    except (KeyError, TypeError, ValueError, OverflowError):
        return _NO_BOX
    if not math.isfinite(x + y + w + h + w * h):
        return _NO_BOX
    crowd = _flag(annotation.get("iscrowd"))
    ignored = crowd or _flag(annotation.get("ignore")) or _flag(annotation.get("difficult"))
    return image, category, x, y, w, h, _object_area(annotation.get("area"), w * h), ignored, crowd


def _object_area(told: Any, of_box: float) -> float:
    is_usable = isinstance(told, int | float) and math.isfinite(told) and told >= 0
    return float(told) if is_usable else of_box


def _flag(value: Any) -> bool:
    # converters write 0, false, "0" and nothing for the same thing
    return value not in (None, 0, "", "0", "false", "False")


def _positive(value: Any) -> float:
    return float(value) if isinstance(value, int | float) and value > 0 else math.nan


def _is_id(value: Any) -> bool:
    return isinstance(value, int | float | str)


def _looked_up(position: dict[Hashable, int], key: Any) -> int | None:
    return position.get(key) if _is_id(key) else None


def _refuse_doubles(values: Iterable[Hashable], what: str, path: Path) -> None:
    value, count = Counter(values).most_common(1)[0]
    if count > 1:
        raise ScoringError(
            f"{path} lists the {what} {value!r} {count} times, so its boxes cannot be told apart. "
            "Keep one entry of each."
        )


def _positions(length: int, chosen: Ints) -> Ints:
    """(length,) the new position of each old one, -1 for those not chosen."""
    positions = np.full(length, -1, np.int64)
    positions[chosen] = np.arange(len(chosen))
    return positions


def _told(reasons: Counter[str]) -> str:
    return ", ".join(f"{count} {why}" for why, count in reasons.most_common())
