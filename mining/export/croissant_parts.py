"""Parts of a croissant.json: files, sets of files, and tables that can be read from them.

Names are those of the Croissant format 1.0 (http://mlcommons.org/croissant/1.0). All file names in it are those that
exporters give, so that no name of an image or class is ever part of an id.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from mining.storage.files import sha256_of

Node = dict[str, Any]
TEXT, INTEGER, FLOAT, BOX = "sc:Text", "sc:Integer", "sc:Float", "cr:BoundingBox"
JSON, JSON_LINES, CSV, YAML, XML, PLAIN, PYTHON = (
    "application/json", "application/jsonlines", "text/csv", "application/yaml", "application/xml", "text/plain",
    "text/x-python",
)  # fmt: skip
_IMAGE_TYPES = {
    ".jpg": "image/jpeg", ".jpeg": "image/jpeg", ".jfif": "image/jpeg", ".png": "image/png", ".gif": "image/gif",
    ".bmp": "image/bmp", ".webp": "image/webp", ".tif": "image/tiff", ".tiff": "image/tiff", ".avif": "image/avif",
    ".jp2": "image/jp2", ".heic": "image/heic", ".heif": "image/heif", ".mpo": "image/mpo",
}  # fmt: skip


class CroissantParts(NamedTuple):
    """Files and tables of one export.

    Attributes:
        distribution: Files and sets of files.
        record_sets: Tables.
    """

    distribution: list[Node]
    record_sets: list[Node]


def file_object(folder: Path, name: str, kind: str, description: str) -> Node:
    """Describe a file of an export, with its SHA-256.

    Args:
        folder: The export.
        name: The file's name below it.
        kind: Its MIME type.
        description: What is in it.
    """
    path = folder / name
    return {
        "@type": "cr:FileObject",
        "@id": name,
        "name": name,
        "description": description,
        "contentUrl": name,
        "contentSize": f"{path.stat().st_size} B",
        "encodingFormat": kind,
        "sha256": sha256_of(path),
    }


def again(node: Node, identity: str, description: str) -> Node:
    """Describe a file a second time: mlcroissant reads one table from a description of a JSON file."""
    return {**node, "@id": identity, "name": identity, "description": description}


def image_set(folder: Path, name: str, *, only_images: bool = True) -> Node:
    """Describe the images below a folder of an export.

    Args:
        folder: The export.
        name: The folder's name below it.
        only_images: Whether there is no other file.
    """
    suffixes = sorted({path.suffix for path in (folder / name).rglob("*") if path.is_file()})
    kinds = {suffix: kind for suffix in suffixes if (kind := _IMAGE_TYPES.get(suffix.lower()))}
    ends = [""] if only_images else list(kinds)
    return file_set(name, [f"*{end}" for end in ends], list(dict.fromkeys(kinds.values())) or ["image/*"], "images")


def file_set(name: str, endings: Iterable[str], kinds: Sequence[str], description: str) -> Node:
    """Describe the files below a folder whose names match one of the patterns."""
    return {
        "@type": "cr:FileSet",
        "@id": f"{name}/",  # a table may have the same name
        "name": f"{name}/",
        "description": description,
        "encodingFormat": kinds[0] if len(kinds) == 1 else list(kinds),
        "includes": [f"{name}/{folders}{ending}" for ending in endings for folders in ("", "**/")],
    }


def json_field(source: str, json_path: str, kind: str, description: str, references: str = "") -> Node:
    """Describe a column that a JSONPath extracts from a JSON file."""
    found = _field(kind, description, {"fileObject": {"@id": source}, "extract": {"jsonPath": json_path}})
    return {**found, "references": {"field": {"@id": references}}} if references else found


def column(source: str, name: str, kind: str, description: str, inside: str = "") -> Node:
    """Describe a column of a table; `inside` names the list in the column's objects that is taken."""
    found: Node = {"fileObject": {"@id": source}, "extract": {"column": name}}
    if not inside:
        return _field(kind, description, found)
    return {**_field(kind, description, {**found, "transform": {"jsonPath": inside}}), "repeated": True}


def sub_fields(fields: Mapping[str, Node], description: str) -> Node:
    """Describe a list of objects, from the fields of each."""
    return {"@type": "cr:Field", "description": description, "repeated": True, "subField": fields}


def record_set(name: str, description: str, fields: Mapping[str, Node], key: str = "", **values: Any) -> Node:
    """Describe a table.

    Args:
        name: Its name and id.
        description: What a row is.
        fields: Its columns by name.
        key: The column that identifies a row.
        **values: Further properties.
    """
    found: Node = {"@type": "cr:RecordSet", "@id": name, "name": name, "description": description}
    if key:
        found["key"] = {"@id": f"{name}/{key}"}
    return {**found, "field": _named(name, fields), **values}


def class_list(classes: Iterable[tuple[int, str]], key: str) -> Node:
    """Describe the classes, which croissant.json itself lists."""
    name = "categories"
    fields = {key: _field(INTEGER, "number of the class"), "name": _field(TEXT, "name of the class")}
    rows = [{f"{name}/{key}": number, f"{name}/name": category} for number, category in classes]
    return record_set(name, "The classes.", fields, key, data=rows)


def _field(kind: str, description: str, source: Node | None = None) -> Node:
    found: Node = {"@type": "cr:Field", "description": description, "dataType": kind}
    return found if source is None else {**found, "source": source}


def _named(prefix: str, fields: Mapping[str, Node]) -> list[Node]:
    """The fields with their names and ids."""
    found = []
    for name, node in fields.items():
        named = {"@type": node["@type"], "@id": f"{prefix}/{name}", "name": name, **node}
        if "subField" in node:
            named["subField"] = _named(f"{prefix}/{name}", node["subField"])
        found.append(named)
    return found
