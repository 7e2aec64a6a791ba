"""Export as "CVAT for images 1.1": one XML file with all boxes, which CVAT shows to a person as automatic ones."""

from itertools import chain
from itertools import count as count_from
from pathlib import Path, PurePosixPath
from xml.etree import ElementTree

import orjson

from mining.export.base import ExportOptions, Written
from mining.export.exported_set import ExportedSet, PartImage
from mining.export.image_files import place_image
from mining.export.xml_text import xml_text
from mining.quality.cvat_file import KEY_ATTRIBUTE
from mining.quality.review_keys import box_key, name_with_suffix, run_key
from mining.runs.rows import BoxRow

SCORE = "score"
_ATTRIBUTES = (SCORE, KEY_ATTRIBUTE)
_NOTE = (
    "In CVAT: create a task whose labels are labels.json (editor Raw) and whose images are the content of the folder "
    "images, then upload annotations.xml as CVAT 1.1."
)


def export_cvat(exported: ExportedSet, out: Path, options: ExportOptions) -> Written:
    """Write annotations.xml, labels.json (the labels of the task, for CVAT's raw editor) and images/.

    Boxes have source="auto". The score and the key of a box are attributes, which CVAT keeps only if the task's labels
    declare them, as labels.json does. CVAT takes names that differ in the suffix only for one image, so the later one
    of 1.jpg and 1.png becomes 1_png.png.
    """
    (out / "images").mkdir()
    classes = [xml_text(name) for _, name in exported.classes]
    (out / "labels.json").write_bytes(orjson.dumps([_raw_label(name) for name in classes], option=orjson.OPT_INDENT_2))
    count = Written(0, 0, (_NOTE, *exported.class_notes()))
    with (out / "annotations.xml").open("w", encoding="utf-8") as file:
        meta = ElementTree.tostring(_meta(exported, classes), encoding="unicode")
        file.write(f'<?xml version="1.0" encoding="utf-8"?>\n<annotations>\n<version>1.1</version>\n{meta}\n')
        stems, key = set[str](), run_key(exported.run)
        for one in exported:
            image = one.image
            size = (image.width, image.height)
            name = _free_name(image.file_name, stems)
            place_image(exported.run.source_of(image), out / "images" / name, size=size, copy=options.copy)
            element = _image(count.images, name, one, key)
            file.write(ElementTree.tostring(element, encoding="unicode") + "\n")
            count = count._replace(images=count.images + 1, boxes=count.boxes + len(element))
        file.write("</annotations>\n")
    return count


def _free_name(file_name: str, stems: set[str]) -> str:
    """Return a name whose stem is not among `stems`, and add it to them."""
    other = PurePosixPath(name_with_suffix(file_name))
    more = (str(other.with_name(f"{other.stem}_{number}{other.suffix}")) for number in count_from(2))
    name = next(
        name for name in chain([file_name, str(other)], more) if str(PurePosixPath(name).with_suffix("")) not in stems
    )
    stems.add(str(PurePosixPath(name).with_suffix("")))
    return name


def _raw_label(name: str) -> dict[str, object]:
    attribute = {"input_type": "text", "mutable": False, "values": [""], "default_value": ""}
    return {"name": name, "type": "rectangle", "attributes": [{"name": one, **attribute} for one in _ATTRIBUTES]}


def _meta(exported: ExportedSet, classes: list[str]) -> ElementTree.Element:
    meta = ElementTree.Element("meta")
    task = ElementTree.SubElement(meta, "task")
    images = sum(exported.images_of.values())
    _texts(task, name=exported.run.name, size=images, mode="annotation", start_frame=0, stop_frame=max(images - 1, 0))
    labels = ElementTree.SubElement(task, "labels")
    for name in classes:
        label = ElementTree.SubElement(labels, "label")
        _texts(label, name=name, type="rectangle")
        attributes = ElementTree.SubElement(label, "attributes")
        for attribute in _ATTRIBUTES:
            declared = ElementTree.SubElement(attributes, "attribute")
            _texts(declared, name=attribute, mutable=False, input_type="text", default_value="", values="")
    return meta


def _image(number: int, name: str, one: PartImage, run: str) -> ElementTree.Element:
    image = one.image
    element = ElementTree.Element(
        "image", id=str(number), name=xml_text(name), width=str(image.width), height=str(image.height)
    )
    for box in one.boxes:
        if not box.is_ignored:
            _add_box(element, box, run)
    return element


def _add_box(image: ElementTree.Element, box: BoxRow, run: str) -> None:
    element = ElementTree.SubElement(
        image, "box", label=xml_text(box.category), source="auto", occluded="0", z_order="0",
        xtl=f"{box.x0:.2f}", ytl=f"{box.y0:.2f}", xbr=f"{box.x1:.2f}", ybr=f"{box.y1:.2f}",
    )  # fmt: skip
    for name, value in ((SCORE, f"{box.score:g}"), (KEY_ATTRIBUTE, box_key(run, box.annotation_id))):
        ElementTree.SubElement(element, "attribute", name=name).text = value


def _texts(parent: ElementTree.Element, **values: object) -> None:
    for tag, value in values.items():
        ElementTree.SubElement(parent, tag).text = xml_text(value)
