"""A folder of VOC XML, one file per image, read in the same way as labels and as ground truth."""

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
    """One <object>.

    Attributes:
        category: Class name.
        corners: xmin, ymin, xmax, ymax as written; None for one that is not a number.
        is_difficult: Whether <difficult> is set.
    """

    category: str
    corners: tuple[float | None, ...]
    is_difficult: bool


class VocAnnotation(NamedTuple):
    """One XML file.

    Attributes:
        xml: Path of the file relative to its folder.
        name: File name of the image: its <filename> in the sub-folder of the XML file, or the name of the XML file.
        own_name: The name of the XML file, if it differs from <filename>.
        width: Width in pixels.
        height: Height in pixels.
        objects: The objects that have a class name.
        is_complete: Whether all objects have a class name.
    """

    xml: str
    name: str
    own_name: str | None
    width: float | None
    height: float | None
    objects: list[VocObject]
    is_complete: bool


class VocFolder:
    """The XML files below a folder.

    Args:
        path: The folder.

    Attributes:
        left_out: The files and objects that were skipped so far.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.left_out = SkippedEntries(path.name)
        self._walk = FileWalker(str(path.resolve()), XML)

    def annotations(self, *, in_order: bool = False) -> Iterator[VocAnnotation]:
        """Read the XML files that can be used.

        Args:
            in_order: Sort them by name, which needs memory.

        Raises:
            CorpusError: No file can be used.
        """
        first_error: CorpusError | None = None
        is_empty = True
        for xml_name in sorted(self._walk) if in_order else self._walk:
            self.left_out.see(FILES)
            try:
                annotation = self._annotation(xml_name)
            except NameOutsideRootError:
                raise
            except CorpusError as error:
                first_error = first_error or error
                self.left_out.add(FILES, "cannot be read", str(error).removeprefix(f"{self.path}/"))
                continue
            is_empty = False
            yield annotation
        if is_empty and first_error is not None:
            raise first_error

    def notes(self) -> list[str]:
        """Notes on what was skipped, one sentence per reason."""
        return [*self.left_out.notes(), *self._walk.notes()]

    def _annotation(self, xml_name: str) -> VocAnnotation:
        root = parse_voc_xml(self.path / xml_name)
        name, own_name = _names(root, xml_name)
        found = [self._object(element, xml_name) for element in root.iterfind("object")]
        objects = [found_object for found_object in found if found_object is not None]
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
    """Whether a folder, or one below it, contains an XML file."""
    with closing(iter(FileWalker(str(folder.resolve()), XML))) as names:
        return next(names, None) is not None


def parse_voc_xml(path: Path) -> Any:
    """Parse the <annotation> of a file; its tags become lower case, without namespaces.

    Raises:
        CorpusError: The XML is malformed, unsafe or not VOC.
    """
    try:
        with label_file_errors(path):
            root = fromstring(read_input(path, MAX_XML_BYTES))
    except (ParseError, DefusedXmlException, ValueError, LookupError) as error:
        raise CorpusError(f"{path} is not XML that can be read ({error}). Correct the file or move it away.") from error
    for element in root.iter():
        if isinstance(element.tag, str):
            element.tag = element.tag.rpartition("}")[2].lower()
    if root.tag != "annotation":
        raise CorpusError(f"{path} is not VOC XML: its root element is <{root.tag}>, expected <annotation>.")
    return root


def parse_number(text: str | None) -> float | None:
    """Convert a text to a number; None if it is not one."""
    try:
        return float(text or "")
    except ValueError:
        return None


def _names(root: Any, xml_name: str) -> tuple[str, str | None]:
    """The image's file name, and the name of the XML file if it differs."""
    folder, slash, stem = xml_name.removesuffix(xml_name[-4:]).rpartition("/")
    own = normalise_file_name(folder + slash + stem, xml_name)
    written = (root.findtext("filename") or "").strip()
    if not written:
        return own, None
    name = normalise_file_name(written, xml_name)
    if not name.startswith(folder + slash):
        name = folder + slash + name
    own_last, last = (file_key(path).rpartition("/")[2] for path in (own, name))
    is_same = {own_last, strip_image_suffix(own_last)} & {last, strip_image_suffix(last)}
    return name, None if is_same else own
