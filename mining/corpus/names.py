"""File names as label files write them."""

import re
import unicodedata
from collections.abc import Iterator

from mining.errors import CorpusError
from mining.formats import IMAGE_SUFFIXES

_COMMON = [".bmp", ".jfif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"]
_SPELLED_SUFFIXES = [*_COMMON, ".JPEG", ".JPG", ".PNG", *sorted(IMAGE_SUFFIXES.difference(_COMMON))]
_DRIVE = re.compile(r"[A-Za-z]:[\\/]")


def suffix_of(name: str) -> str:
    """The part from the last dot on, in lower case; '' where there is none."""
    dot = name.rfind(".")
    return name[dot:].lower() if dot > name.rfind("/") else ""


def is_unicode(name: str) -> bool:
    """Whether the name can be written as UTF-8 (names read from a disk may hold undecodable bytes)."""
    if name.isascii():
        return True
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def checked_name(name: str, where: str) -> str:
    """The name without empty and '.' parts, sure to stay below the image root.

    where: the place in the label file, for the message.
    Raises CorpusError for an empty name, an absolute one, one with '..', and one that no file can have.
    """
    parts = name.replace("\\", "/").split("/")
    if ".." in parts or name[:1] in ("/", "\\") or _DRIVE.match(name):
        raise CorpusError(
            f"{where}: {name!r} leads out of the image folder. Names are paths below --images, such as 'cats/001.jpg'."
        )
    if "\0" in name or not is_unicode(name):
        raise CorpusError(f"{where}: {name!r} is not a possible file name.")
    if "" in parts or "." in parts:
        name = "/".join(part for part in name.split("/") if part not in ("", "."))
    if not name:
        raise CorpusError(f"{where}: the file name is empty. Name an image below --images, such as 'cats/001.jpg'.")
    return name


def spellings(name: str) -> Iterator[str]:
    """The name, then other ways in which a disk may spell it: Unicode forms, '/' for a backslash, a suffix added."""
    seen: set[str] = set()
    for base in (name, name.replace("\\", "/")):
        for spelled in (base, *(unicodedata.normalize(form, base) for form in ("NFC", "NFD", "NFKC", "NFKD"))):
            if spelled not in seen:
                seen.add(spelled)
                yield spelled
    if suffix_of(name) not in IMAGE_SUFFIXES:
        for spelled in sorted(seen):
            yield from (spelled + suffix for suffix in _SPELLED_SUFFIXES)
