"""File names and class names as label files write them, and how they are compared.

This is the one place that decides when two names are the same: both are compared in Unicode form NFC and without
spaces around them. A file name's suffix may differ in letter case (a.JPG, a.jpg); nothing else may.
"""

import re
import unicodedata
from collections.abc import Iterator

from mining.corpus.images.image_formats import IMAGE_SUFFIXES
from mining.errors import CorpusError

_COMMON = [".bmp", ".jfif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"]
_SPELLED_SUFFIXES = [*_COMMON, ".JPEG", ".JPG", ".PNG", *sorted(IMAGE_SUFFIXES.difference(_COMMON))]
_DRIVE = re.compile(r"[A-Za-z]:[\\/]")
_INVISIBLE = "\ufeff\u200b\u200c\u200d\u2060"  # not spaces to Python, and not to be seen either


def normalise_name(name: str) -> str:
    """The name in Unicode form NFC, without spaces and invisible characters around it."""
    return unicodedata.normalize("NFC", name).strip().strip(_INVISIBLE).strip()


def normalise_class_name(name: str) -> str:
    """A class name in the form in which class names are compared and kept."""
    return normalise_name(name)


def file_key(name: str) -> str:
    """What file names are compared by: NFC, '/' between the parts, the suffix in lower case."""
    name = "/".join(part for part in normalise_name(name).replace("\\", "/").split("/") if part not in ("", "."))
    suffix = suffix_of(name)
    return name[: len(name) - len(suffix)] + suffix if suffix in IMAGE_SUFFIXES else name


def strip_image_suffix(key: str) -> str:
    """A file name without its suffix, where it has one that images have."""
    suffix = suffix_of(key)
    return key[: -len(suffix)] if suffix in IMAGE_SUFFIXES else key


def path_tails(key: str) -> Iterator[str]:
    """The path, then the same without its first folder, and so on down to the file name: a/b/c, b/c, c."""
    while True:
        yield key
        _, slash, key = key.partition("/")
        if not slash:
            return


class NameOutsideRootError(CorpusError):
    """A file name that leads out of the image root: no careless entry, so that the whole listing is refused."""


def suffix_of(name: str) -> str:
    """The part from the last dot on, in lower case; '' where there is none."""
    dot = name.rfind(".")
    return name[dot:].lower() if dot > name.rfind("/") else ""


def is_valid_unicode(name: str) -> bool:
    """Whether the name can be written as UTF-8 (names read from a disk may hold undecodable bytes)."""
    if name.isascii():
        return True
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def validate_file_name(name: str, where: str) -> str:
    """The name without empty and '.' parts, sure to stay below the image root.

    where: the place in the label file, for the message.
    Raises CorpusError for an empty name and one that no file can have, OutsideNameError for an absolute one and one
    with '..'.
    """
    name = name.strip()
    parts = name.replace("\\", "/").split("/")
    if ".." in parts or name[:1] in ("/", "\\") or _DRIVE.match(name):
        raise NameOutsideRootError(
            f"{where}: {name!r} leads out of the image folder. Names are paths below --images, such as 'cats/001.jpg'."
        )
    if "\0" in name or not is_valid_unicode(name):
        raise CorpusError(f"{where}: {name!r} is not a possible file name.")
    name = "/".join(part for part in parts if part not in ("", "."))
    if not name:
        raise CorpusError(f"{where}: the file name is empty. Name an image below --images, such as 'cats/001.jpg'.")
    return name


def normalise_file_name(name: str, where: str) -> str:
    """As `validate_file_name`, in Unicode form NFC and without invisible characters around it."""
    return validate_file_name(normalise_name(name), where)


def spelling_variants(name: str) -> Iterator[str]:
    """The name, then other ways in which a disk may spell it: Unicode forms, '/' for a backslash, a suffix added."""
    seen: set[str] = set()
    for base in (name, name.replace("\\", "/")):
        for spelled in (base, *(unicodedata.normalize(form, base) for form in ("NFC", "NFD"))):
            if spelled not in seen:
                seen.add(spelled)
                yield spelled
    if suffix_of(name) not in IMAGE_SUFFIXES:
        for spelled in sorted(seen):
            yield from (spelled + suffix for suffix in _SPELLED_SUFFIXES)


def normalise_class_names(names: list[str]) -> list[str]:
    """The names as they are compared, without empty ones, each once, sorted."""
    return sorted({normalise_class_name(name) for name in names} - {""})
