"""Export as Pascal VOC: one XML file per image, in the folder layout of VOC2012."""

import hashlib
import re
from contextlib import ExitStack
from itertools import chain, count
from pathlib import Path, PurePosixPath
from xml.etree import ElementTree

from mining.corpus.splits import TEST
from mining.export.base import ExportOptions, Written
from mining.export.croissant_parts import PLAIN, XML, CroissantParts, file_object, file_set, image_set
from mining.export.exported_set import ExportedSet
from mining.export.image_files import JPEG_FORMATS, place_image
from mining.export.xml_text import xml_text
from mining.runs.rows import BoxedImage, BoxRow, ImageRow
from mining.runs.run import Run

_YEAR = "VOC2012"
_TRAINVAL = "trainval"
_SPLITS_A_NAME = re.compile(r"[\s#]")
_LONGEST_STEM_BYTES = 200


def export_voc(exported: ExportedSet, out: Path, options: ExportOptions) -> Written:
    """Write VOCdevkit/VOC2012/{Annotations,JPEGImages,ImageSets/Main}, which torchvision's VOCDetection reads.

    Corners are whole pixels counted from 1, and the last pixel is inside the box, as in VOC; the score is an element of
    its own, which readers of VOC ignore. All images are .jpg files in one folder, because readers open `name + .jpg`:
    JPEGs are linked, others are re-encoded with quality 95. A sub-folder becomes part of the name (a/1.png ->
    a__1.jpg), white space and `#` become `_`, because the lists in ImageSets are often split there, and if two images
    would share a name, the later one is given its suffix or a number (a__1_png.jpg); <path> has the run's name.

    Ground truth boxes that are to be ignored are difficult. ImageSets/Main holds train.txt, val.txt and trainval.txt
    (and test.txt if the corpus lists all three).
    """
    root = out / "VOCdevkit" / _YEAR
    for folder in ("Annotations", "JPEGImages", "ImageSets/Main"):
        (root / folder).mkdir(parents=True)
    written = Written(0, 0)
    with ExitStack() as files:
        lists = {
            part: files.enter_context((root / f"ImageSets/Main/{part}.txt").open("w", encoding="utf-8"))
            for part in (*exported.split.parts, _TRAINVAL)
        }
        for one in exported:
            stem = _write_image(exported.run, root, one.boxed, copy=options.copy)
            for name in (one.part,) if one.part == TEST else (one.part, _TRAINVAL):
                lists[name].write(stem + "\n")
            written = Written(written.images + 1, written.boxes + len(one.boxes))
    return written._replace(keeps_ignored=True, croissant=_describe(out, root.relative_to(out).as_posix(), list(lists)))


def _describe(out: Path, root: str, lists: list[str]) -> CroissantParts:
    """Croissant cannot read XML, so that the boxes are described as files only."""
    files = [
        *(
            file_object(out, f"{root}/ImageSets/Main/{one}.txt", PLAIN, f"names of the images of {one}")
            for one in lists
        ),
        file_set(f"{root}/Annotations", ["*.xml"], [XML], "one file per image, with its boxes, in PASCAL VOC's format"),
        image_set(out, f"{root}/JPEGImages"),
    ]
    return CroissantParts(files, [])


def _write_image(run: Run, root: Path, boxed: BoxedImage, *, copy: bool) -> str:
    image = boxed.image
    stem = _free_stem(root / "Annotations", image.file_name)
    target = root / "JPEGImages" / f"{stem}.jpg"
    place_image(run.source_of(image), target, size=(image.width, image.height), copy=copy, only=JPEG_FORMATS)
    tree = ElementTree.ElementTree(_annotation(boxed, target.name))
    ElementTree.indent(tree)
    tree.write(root / "Annotations" / f"{stem}.xml", encoding="utf-8")
    return stem


def _free_stem(annotations: Path, file_name: str) -> str:
    """A flat name that no earlier image has; the files on disk show which are taken."""
    path = PurePosixPath(file_name)
    stem = _flat("__".join(path.with_suffix("").parts))
    with_suffix = f"{stem}_{_flat(path.suffix.lstrip('.').lower())}"
    stems = chain([stem, with_suffix], (f"{with_suffix}_{number}" for number in count(2)))
    return next(stem for stem in stems if not (annotations / f"{stem}.xml").exists())


def _flat(name: str) -> str:
    name = _SPLITS_A_NAME.sub("_", xml_text(name))
    if len(name.encode()) <= _LONGEST_STEM_BYTES:
        return name
    digest = hashlib.blake2b(name.encode(), digest_size=8).hexdigest()
    return name.encode()[: _LONGEST_STEM_BYTES - 17].decode(errors="ignore") + "_" + digest


def _annotation(boxed: BoxedImage, file_name: str) -> ElementTree.Element:
    image = boxed.image
    root = ElementTree.Element("annotation")
    _texts(root, folder=_YEAR, filename=file_name, path=image.file_name)
    _texts(ElementTree.SubElement(root, "source"), database="boxmine", annotation="pseudo", image="corpus")
    _texts(ElementTree.SubElement(root, "size"), width=image.width, height=image.height, depth=3)
    _texts(root, segmented=0)
    for box in boxed.boxes:
        _add_object(root, box, image)
    return root


def _add_object(root: ElementTree.Element, box: BoxRow, image: ImageRow) -> None:
    element = ElementTree.SubElement(root, "object")
    _texts(element, name=box.category, pose="Unspecified", truncated=0, difficult=int(box.is_ignored), score=box.score)
    xmin, xmax = _pixels(box.x0, box.x1, image.width)
    ymin, ymax = _pixels(box.y0, box.y1, image.height)
    _texts(ElementTree.SubElement(element, "bndbox"), xmin=xmin, ymin=ymin, xmax=xmax, ymax=ymax)


def _pixels(low: float, high: float, limit: int) -> tuple[int, int]:
    """Convert half-open edges to the first and last pixel, counted from 1, inside the image and never empty."""
    first = min(round(low) + 1, limit)
    return first, max(min(round(high), limit), first)


def _texts(parent: ElementTree.Element, **values: str | float) -> None:
    for tag, value in values.items():
        ElementTree.SubElement(parent, tag).text = xml_text(value)
