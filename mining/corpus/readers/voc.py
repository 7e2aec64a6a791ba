"""Image-level labels from a folder of VOC XML, one file per image; its boxes are ignored."""

from collections.abc import Iterator
from pathlib import Path

from mining.corpus.formats.parsing import parse_image_size
from mining.corpus.formats.voc import VocFolder
from mining.corpus.image_root import ImageRoot
from mining.corpus.listing import ListedImage, ListingInfo
from mining.corpus.names import normalise_class_names
from mining.corpus.sqlite_index import CorpusIndex


def read(path: Path, root: ImageRoot, index: CorpusIndex) -> ListingInfo:
    """Read <filename>, <size> and the <name> of each <object>.

    An annotation without objects means that the image has none of the classes. An XML file in a sub-folder may name its
    image with or without that sub-folder. The image is found by the name of the XML file if there is no <filename>, if
    several XML files have the same <filename>, or if no image has that name.

    Raises:
        CorpusError: No XML file can be used.
    """
    folder = VocFolder(path)
    index.add_listed(_listed(folder))
    return ListingInfo("voc", path, notes=[*folder.notes(), *resolve_shared_names(index, path.name)])


def resolve_shared_names(index: CorpusIndex, folder: str) -> list[str]:
    """Name the images of XML files that share a <filename> after the XML files.

    Returns:
        A note, if there are any.
    """
    count, first = index.prefer_own_names()
    if not count:
        return []
    return [
        f"{count} XML files of {folder} share their <filename> with another, first {first!r}: their images are looked "
        "up by the names of the XML files."
    ]


def _listed(folder: VocFolder) -> Iterator[ListedImage]:
    for annotation in folder.annotations():
        names = normalise_class_names([found.category for found in annotation.objects])
        labels = names if names or annotation.is_complete else None
        size = parse_image_size(annotation.width, annotation.height)
        yield ListedImage(annotation.name, labels, None, None, *size, annotation.own_name)
