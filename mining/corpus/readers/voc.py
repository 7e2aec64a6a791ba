"""A folder of VOC XML, one file an image, as image-level labels: the boxes in it are ignored."""

from collections.abc import Iterator
from pathlib import Path

from mining.corpus.formats.parsing import parse_image_size
from mining.corpus.formats.voc import VocFolder
from mining.corpus.image_root import ImageRoot
from mining.corpus.listing import ListedImage, ListingInfo
from mining.corpus.names import normalise_class_names
from mining.corpus.sqlite_index import CorpusIndex


def read(path: Path, root: ImageRoot, table: CorpusIndex) -> ListingInfo:
    """Take in <filename>, <size> and the <name> of each <object>; an annotation without objects says 'none of them'.

    An XML in a subfolder may name its image with or without that subfolder. Without <filename> the XML's name counts,
    and also where several XML files have the same <filename>, or no image has it.
    Raises CorpusError where no XML file can be used.
    """
    folder = VocFolder(path)
    table.add_listed(_listed(folder))
    return ListingInfo("voc", path, notes=[*folder.notes(), *resolve_shared_names(table, path.name)])


def resolve_shared_names(table: CorpusIndex, folder: str) -> list[str]:
    """Give files that share a <filename> their own names; gives the sentence that says so."""
    count, first = table.prefer_own_names()
    if not count:
        return []
    return [
        f"{count} XML files of {folder} have a <filename> that stands in several, first {first!r}: their images are "
        "found by the names of the XML files."
    ]


def _listed(folder: VocFolder) -> Iterator[ListedImage]:
    for one in folder.annotations():
        names = normalise_class_names([found.category for found in one.objects])
        labels = names if names or one.is_complete else None
        yield ListedImage(one.name, labels, None, None, *parse_image_size(one.width, one.height), one.own_name)
