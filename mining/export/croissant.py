"""croissant.json: the description of an exported set in the Croissant format 1.0 of MLCommons."""

import re
from pathlib import Path
from typing import Any

import orjson

from mining.export.base import ExportOptions, Written
from mining.export.exported_set import ExportedSet
from mining.export.licences import UNKNOWN

FILE = "croissant.json"
_SPECIFICATION = "http://mlcommons.org/croissant/1.0"
_OF_CROISSANT = (
    "citeAs", "column", "equivalentProperty", "extract", "field", "fileProperty", "fileObject", "fileSet", "format",
    "includes", "isLiveDataset", "jsonPath", "key", "md5", "parentField", "path", "recordSet", "references", "regex",
    "repeated", "replace", "samplingRate", "separator", "source", "subField", "transform",
)  # fmt: skip
_CONTEXT: dict[str, Any] = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    **{name: f"cr:{name}" for name in _OF_CROISSANT},
    "conformsTo": "dct:conformsTo",
    "cr": "http://mlcommons.org/croissant/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/",
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "rai": "http://mlcommons.org/croissant/RAI/",
    "sc": "https://schema.org/",
}


def write_croissant(folder: Path, exported: ExportedSet, written: Written, options: ExportOptions) -> None:
    """Write croissant.json, if the format can be described.

    It states what is known: where the set will be published, by whom and when, and how to cite it, is left to the
    person who publishes it. The same run and options give the same bytes.

    Args:
        folder: The export.
        exported: The images with their boxes.
        written: What the exporter wrote.
        options: Options of the export.
    """
    if written.croissant is None:
        return
    name = exported.run.name
    document: dict[str, Any] = {
        "@context": _CONTEXT,
        "@type": "sc:Dataset",
        "name": re.sub(r"[^\w.-]+", "-", name) or "boxes",
        "description": (
            f"{written.boxes} boxes on {written.images} images, pseudo-annotations of the boxmine run {name}. "
            "README.md states how they were made and how good they are."
        ),
        "conformsTo": _SPECIFICATION,
        "license": options.license or UNKNOWN,
    }
    if date := exported.run.record.get("finished"):
        document["dateCreated"] = date
    document |= {"distribution": written.croissant.distribution, "recordSet": written.croissant.record_sets}
    (folder / FILE).write_bytes(orjson.dumps(document, option=orjson.OPT_INDENT_2) + b"\n")
