"""A folder of VOC XML, one file per image, read the same way as labels and as truth."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple
from xml.etree.ElementTree import ParseError

from defusedxml.common import DefusedXmlException
from defusedxml.ElementTree import fromstring

from mining.corpus.file_walker import FileWalker
from mining.corpus.formats.notes import SkippedEntries
from mining.corpus.formats.parsing import is_flag_set, label_file_errors
from mining.corpus.names import (
    NameOutsideRootError,
    file_key,
    normalise_class_name,
    normalise_file_name,
    strip_image_suffix,
)
from mining.errors import CorpusError
from mining.storage.untrusted_files import MAX_XML_BYTES, read_input

XML = frozenset({".xml"})
FILES, OBJECTS = "XML files", "objects"
_CORNERS = ("xmin", "ymin", "xmax", "ymax")


class VocObject(NamedTuple):
    """One <object>. corners: xmin, ymin, xmax, ymax as written, None for what is no number."""

    category: str
    corners: tuple[float | None, ...]
    is_difficult: bool


class VocAnnotation(NamedTuple):
    """One XML file.

    name: the image by its <filename>, in the XML's subfolder; without <filename> by the XML's own name.
    own_name: the image by the XML's own name, where that is another. width, height: pixels. objects: those that have a
    class name. is_complete: whether all have one.
    """

    xml: str
    name: str
    own_name: str | None
    width: float | None
    height: float | None
    objects: list[VocObject]
    is_complete: bool


class VocFolder:
    """The XML files below a folder. left_out: what could not be used so far."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.left_out = SkippedEntries(path.name)
        self._walk = FileWalker(str(path.resolve()), XML)

    def annotations(self, *, in_order: bool = False) -> Iterator[VocAnnotation]:
        """The files that can be used. in_order: sorted by name, which takes memory.

        Raises CorpusError where there is none.
        """
        first_error: CorpusError | None = None
        is_empty = True
        for xml_name in sorted(self._walk) if in_order else self._walk:
            self.left_out.see(FILES)
            try:
                found = self._annotation(xml_name)
            except NameOutsideRootError:
                raise
            except CorpusError as error:
                first_error = first_error or error
                self.left_out.add(FILES, "cannot be read", str(error).removeprefix(f"{self.path}/"))
                continue
            is_empty = False
            yield found
        if is_empty and first_error is not None:
            raise first_error

    def notes(self) -> list[str]:
        """One sentence for each kind of thing that was left out."""
        return [*self.left_out.notes(), *self._walk.notes()]

    def _annotation(self, xml_name: str) -> VocAnnotation:
        root = parse_voc_xml(self.path / xml_name)
        name, own_name = _names(root, xml_name)
        found = [self._object(one, xml_name) for one in root.iterfind("object")]
        objects = [one for one in found if one is not None]
        width, height = (parse_number(root.findtext(f"size/{side}")) for side in ("width", "height"))
        return VocAnnotation(xml_name, name, own_name, width, height, objects, len(objects) == len(found))

    def _object(self, element: Any, xml_name: str) -> VocObject | None:
        self.left_out.see(OBJECTS)
        category = normalise_class_name(element.findtext("name") or "")
        if not category:
            self.left_out.add(OBJECTS, "have no name", xml_name)
            return None
        corners = tuple(parse_number(element.findtext(f"bndbox/{corner}")) for corner in _CORNERS)
        return VocObject(category, corners, is_flag_set(element.findtext("difficult")))


def contains_voc(folder: Path) -> bool:
    """Whether the folder, or one below it, holds an XML file."""
    with closing(iter(FileWalker(str(folder.resolve()), XML))) as names:
        return next(names, None) is not None


def parse_voc_xml(path: Path) -> Any:
    """The <annotation> of a file, its tags in lower case and without namespaces.

    Raises CorpusError for XML that is broken, unsafe or not VOC.
    """
    try:
        with label_file_errors(path):
            root = fromstring(read_input(path, MAX_XML_BYTES))
    except (ParseError, DefusedXmlException, ValueError, LookupError) as error:
        raise CorpusError(f"{path} is not XML that can be read ({error}). Mend it or take it away.") from error
    for element in root.iter():
        if isinstance(element.tag, str):
            element.tag = element.tag.rpartition("}")[2].lower()
    if root.tag != "annotation":
        raise CorpusError(f"{path} is not VOC XML: it does not begin with <annotation>.")
    return root


def parse_number(text: str | None) -> float | None:
    """The number that a text is, None where it is none."""
    try:
        return float(text or "")
    except ValueError:
        return None


def _names(root: Any, xml_name: str) -> tuple[str, str | None]:
    """The image's name, and the one that the XML file's own name would give where that is another."""
    folder, slash, stem = xml_name.removesuffix(xml_name[-4:]).rpartition("/")
    own = normalise_file_name(folder + slash + stem, xml_name)
    written = (root.findtext("filename") or "").strip()
    if not written:
        return own, None
    name = normalise_file_name(written, xml_name)
    if not name.startswith(folder + slash):
        name = folder + slash + name
    own_last, last = (file_key(one).rpartition("/")[2] for one in (own, name))
    is_own = {own_last, strip_image_suffix(own_last)} & {last, strip_image_suffix(last)}
    return name, None if is_own else own
