"""A folder of VOC XML, one file an image, as image-level labels: the boxes in it are ignored."""

from contextlib import closing
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import ParseError

from defusedxml.common import DefusedXmlException
from defusedxml.ElementTree import fromstring

from mining.corpus.names import checked_name
from mining.corpus.readers.source import Source, class_names, readable
from mining.corpus.spill import Listed, Spill, pixels
from mining.corpus.walk import ImageRoot, Walk
from mining.errors import CorpusError
from mining.untrusted import MAX_XML_BYTES, read_input

XML = frozenset({".xml"})


def is_at(folder: Path) -> bool:
    """Whether the folder, or one below it, holds an XML file."""
    with closing(iter(Walk(str(folder.resolve()), XML))) as names:
        return next(names, None) is not None


def read(path: Path, root: ImageRoot, table: Spill) -> Source:
    """Take in <filename>, <size> and the <name> of each <object>; an annotation without objects says 'none of them'.

    An XML in a subfolder may name its image with or without that subfolder. Without <filename> the XML's name counts.
    Raises CorpusError for XML that is broken, unsafe or not VOC.
    """
    walk = Walk(str(path.resolve()), XML)
    table.add_listed(_listed(path, name, root) for name in walk)
    return Source("voc", path, notes=walk.notes())


def _listed(path: Path, xml_name: str, root: ImageRoot) -> Listed:
    annotation = parsed(path / xml_name)
    folder, _, stem = xml_name.removesuffix(xml_name[-4:]).rpartition("/")
    name = checked_name((annotation.findtext("filename") or "").strip() or stem, xml_name)
    if folder and root.find(f"{folder}/{name}"):
        name = f"{folder}/{name}"
    labels = class_names([found.findtext("name") or "" for found in annotation.iterfind("object")])
    width, height = (_number(annotation.findtext(f"size/{side}")) for side in ("width", "height"))
    return Listed(name, labels, None, None, *pixels(width, height))


def parsed(path: Path) -> Any:
    """The <annotation> of a file; raises CorpusError for XML that is broken, unsafe or not VOC."""
    try:
        with readable(path):
            annotation = fromstring(read_input(path, MAX_XML_BYTES))
    except (ParseError, DefusedXmlException, ValueError, LookupError) as error:
        raise CorpusError(f"{path} is not XML that can be read ({error}). Mend it or take it away.") from error
    if annotation is None or annotation.tag != "annotation":
        raise CorpusError(f"{path} is not VOC XML: it does not begin with <annotation>.")
    return annotation


def _number(text: str | None) -> float | None:
    try:
        return float(text or "")
    except ValueError:
        return None
