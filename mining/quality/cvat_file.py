"""Read what CVAT exports as "CVAT for images 1.1"."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from defusedxml import DefusedXmlException
from defusedxml.ElementTree import ParseError, iterparse

from mining.errors import InputError
from mining.quality.review_keys import name_without_suffix
from mining.quality.review_shapes import DrawnBox, ReviewedImage, ReviewFile, extent

KEY_ATTRIBUTE = "annotation_id"
_REMEDY = "Export the task from CVAT as CVAT for images 1.1, unpack it, and give annotations.xml."


def read_cvat(path: Path) -> ReviewFile:
    """Open an XML export of CVAT; all of its images count as looked at.

    Raises:
        InputError: The file cannot be read, or is no such export; also while the images are read.
    """
    notes: list[str] = []
    return ReviewFile("CVAT", _images(path, notes), notes)


def _images(path: Path, notes: list[str]) -> Iterator[ReviewedImage]:
    counts: Counter[str] = Counter()
    try:
        with path.open("rb") as file:
            for _, element in iterparse(file, events=("end",)):
                if element.tag == "track":
                    raise InputError(f"{path} is a CVAT export of a video. {_REMEDY}")
                if element.tag == "image":
                    yield _image(element, counts)
                    element.clear()
                counts["root"] += element.tag == "annotations"
    except OSError as error:
        raise InputError(f"Cannot read {path}: {error.strerror or error}.") from None
    except (ParseError, DefusedXmlException, ValueError) as error:
        raise InputError(f"{path} is not valid XML ({error}). {_REMEDY}") from None
    if not counts["root"]:
        raise InputError(f"{path} is no export of CVAT: its root is not <annotations>. {_REMEDY}")
    sentences = {
        "shapes": f"Shapes of {path.name} that are no boxes, left out: {{}}.",
        "broken": f"Boxes of {path.name} without four numbers, left out: {{}}.",
    }
    notes += [sentence.format(counts[kind]) for kind, sentence in sentences.items() if counts[kind]]


def _image(element: Any, counts: Counter[str]) -> ReviewedImage:
    boxes = []
    for shape in element:
        if shape.tag != "box":
            counts["shapes"] += shape.tag != "tag"  # a tag is about the whole image
            continue
        box = _box(shape)
        counts["broken"] += box is None
        boxes += [] if box is None else [box]
    name = str(element.get("name", ""))
    return ReviewedImage((name, name_without_suffix(name)), tuple(boxes))


def _box(shape: Any) -> DrawnBox | None:
    try:
        x0, y0, x1, y1 = (float(shape.get(edge, "")) for edge in ("xtl", "ytl", "xbr", "ybr"))
        degrees = float(shape.get("rotation") or 0)
    except ValueError:
        return None
    xyxy = extent(x0, y0, x1 - x0, y1 - y0, degrees, ((x0 + x1) / 2, (y0 + y1) / 2))
    keys = [one.text for one in shape.iterfind("attribute") if one.get("name") == KEY_ATTRIBUTE]
    return DrawnBox(keys[0] if keys else None, shape.get("label") or None, xyxy)
