"""Boxes as two well-known kinds of folder hold them, in the terms of a COCO file: CUB list files, and VOC XML."""

import hashlib
from pathlib import Path
from typing import Any

from mining.corpus.readers import cub, voc
from mining.corpus.walk import Walk
from mining.errors import ScoringError
from mining.files import sha256_of
from mining.scoring.truth import CUB_BOXES

_CORNERS = ("xmin", "ymin", "xmax", "ymax")

Content = dict[str, Any]


def read_folder(folder: Path) -> tuple[str, str, Content]:
    """Name and SHA-256 of what holds the boxes, and the lists images, annotations and categories of a COCO file.

    Raises ScoringError for a folder of another kind, and CorpusError for a list or an XML that is broken.
    """
    if cub.is_at(folder):
        return CUB_BOXES, sha256_of(_existing(folder / CUB_BOXES)), _content_of_cub(folder)
    names = sorted(Walk(str(folder.resolve()), voc.XML))
    if not names:
        raise ScoringError(
            f"The folder {folder} holds no truth: neither VOC XML nor CUB list files with {CUB_BOXES}. Give one of "
            "them, or a COCO file."
        )
    return folder.name, _digest(folder, names), _content_of_voc(folder, names)


def _existing(path: Path) -> Path:
    if not path.is_file():
        raise ScoringError(f"{path.parent} has no {path.name}, so there are no boxes to score against. Add it.")
    return path


def _content_of_cub(folder: Path) -> Content:
    """CUB's lists: a line `id x y width height` an image, in pixels counted from 0."""
    label = dict(cub.lines(folder / cub.LABELS))
    return {
        "images": [{"id": identity, "file_name": name} for identity, name in cub.lines(folder / cub.IMAGES)],
        "categories": [{"id": identity, "name": name} for identity, name in cub.lines(folder / cub.CLASSES)],
        "annotations": [
            {"image_id": identity, "category_id": label.get(identity), "bbox": sides.split()}
            for identity, sides in cub.lines(folder / CUB_BOXES)
        ],
    }


def _content_of_voc(folder: Path, names: list[str]) -> Content:
    """VOC's XML; an image of an XML in a subfolder is named with it."""
    images, annotations = [], []
    for number, name in enumerate(names):
        found = voc.parsed(folder / name)
        width, height = (_number(found.findtext(f"size/{side}")) for side in ("width", "height"))
        images.append({"id": number, "file_name": _image_of(found, name), "width": width, "height": height})
        annotations += [
            {
                "image_id": number,
                "category_id": (one.findtext("name") or "").strip() or None,
                "bbox": _half_open(*(_number(one.findtext(f"bndbox/{corner}")) for corner in _CORNERS)),
                "difficult": (one.findtext("difficult") or "").strip(),
            }
            for one in found.iterfind("object")
        ]
    classes = sorted({str(one["category_id"]) for one in annotations if one["category_id"]})
    return {
        "images": images,
        "annotations": annotations,
        "categories": [{"id": name, "name": name} for name in classes],
    }


def _image_of(annotation: Any, xml_name: str) -> str:
    folder, slash, stem = xml_name.removesuffix(xml_name[-4:]).rpartition("/")
    name = (annotation.findtext("filename") or "").strip() or stem
    return name if name.startswith(folder + slash) else folder + slash + name


def _half_open(x0: float | None, y0: float | None, x1: float | None, y1: float | None) -> list[float] | None:
    """VOC's corners, pixels counted from 1 and the last one inside the box, to x, y, width, height from 0."""
    if x0 is None or y0 is None or x1 is None or y1 is None:
        return None
    return [x0 - 1, y0 - 1, x1 - x0 + 1, y1 - y0 + 1]


def _number(text: str | None) -> float | None:
    try:
        return float(text or "")
    except ValueError:
        return None


def _digest(folder: Path, names: list[str]) -> str:
    """SHA-256 over the names and contents of the files."""
    whole = hashlib.sha256()
    for name in names:
        whole.update(f"{name} {sha256_of(folder / name)}\n".encode())
    return whole.hexdigest()
