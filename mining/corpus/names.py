"""File names and class names as label files write them, and how they are compared.

Two names are the same if they agree in Unicode form NFC without surrounding spaces. The suffix of a file name may also
differ in letter case (a.JPG, a.jpg); nothing else may.
"""

import re
import unicodedata
from collections.abc import Iterator

from mining.corpus.images.image_formats import IMAGE_SUFFIXES
from mining.errors import CorpusError

_COMMON = [".bmp", ".jfif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"]
_SUFFIX_VARIANTS = [*_COMMON, ".JPEG", ".JPG", ".PNG", *sorted(IMAGE_SUFFIXES.difference(_COMMON))]
_DRIVE = re.compile(r"[A-Za-z]:[\\/]")
_INVISIBLE = "\ufeff\u200b\u200c\u200d\u2060"  # invisible, but not spaces to Python


def normalise_name(name: str) -> str:
    """Convert a name to Unicode form NFC, without surrounding spaces and invisible characters."""
    return unicodedata.normalize("NFC", name).strip().strip(_INVISIBLE).strip()


def normalise_class_name(name: str) -> str:
    """Convert a class name to the form in which class names are compared and stored."""
    return normalise_name(name)


def file_key(name: str) -> str:
    r"""Convert a file name to the form in which file names are compared.

    That is Unicode form NFC, '/' as separator, and the suffix of an image in lower case.

    Example:
        >>> file_key(".\\cats\\001.JPG")
        'cats/001.jpg'
    """
    name = "/".join(part for part in normalise_name(name).replace("\\", "/").split("/") if part not in ("", "."))
    suffix = suffix_of(name)
    return name[: len(name) - len(suffix)] + suffix if suffix in IMAGE_SUFFIXES else name


def strip_image_suffix(key: str) -> str:
    """Remove the suffix of an image file name; other names are returned unchanged."""
    suffix = suffix_of(key)
    return key[: -len(suffix)] if suffix in IMAGE_SUFFIXES else key


def path_tails(key: str) -> Iterator[str]:
    """Yield a path, then the same without its first folder, and so on to the file name: a/b/c, b/c, c."""
    while True:
        yield key
        _, slash, key = key.partition("/")
        if not slash:
            return


class NameOutsideRootError(CorpusError):
    """A file name that leads out of the image root. Other bad names are skipped; this one refuses the whole listing."""


def suffix_of(name: str) -> str:
    """The file name's last dot and what follows it, in lower case; empty if there is no dot."""
    dot = name.rfind(".")
    return name[dot:].lower() if dot > name.rfind("/") else ""


def is_valid_unicode(name: str) -> bool:
    """Whether a name can be encoded as UTF-8; names read from a disk may hold undecodable bytes."""
    if name.isascii():
        return True
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def validate_file_name(name: str, where: str) -> str:
    """Check that a file name stays below the image root, and remove empty and '.' parts.

    Args:
        name: The name as the label file writes it.
        where: The place in the label file, for the message.

    Raises:
        NameOutsideRootError: The path is absolute or contains '..'.
        CorpusError: The name is empty, or no file can have it.
    """
    name = name.strip()
    parts = name.replace("\\", "/").split("/")
    if ".." in parts or name[:1] in ("/", "\\") or _DRIVE.match(name):
        raise NameOutsideRootError(
            f"{where}: {name!r} leads out of the image folder. Give file names relative to --images, such as "
            "'cats/001.jpg'."
        )
    if "\0" in name or not is_valid_unicode(name):
        raise CorpusError(f"{where}: {name!r} cannot be the name of a file.")
    name = "/".join(part for part in parts if part not in ("", "."))
    if not name:
        raise CorpusError(
            f"{where}: the file name is empty. Give a file name relative to --images, such as 'cats/001.jpg'."
        )
    return name


def normalise_file_name(name: str, where: str) -> str:
    """Normalise a file name with `normalise_name`, then check it with `validate_file_name`."""
    return validate_file_name(normalise_name(name), where)


def spelling_variants(name: str) -> Iterator[str]:
    """Yield a name, then the other ways in which a disk may spell it.

    They differ in the Unicode form (NFC, NFD) and in '/' for a backslash; a name without an image suffix also gets one.
    """
    seen: set[str] = set()
    for base in (name, name.replace("\\", "/")):
        for variant in (base, *(unicodedata.normalize(form, base) for form in ("NFC", "NFD"))):
            if variant not in seen:
                seen.add(variant)
                yield variant
    if suffix_of(name) not in IMAGE_SUFFIXES:
        for variant in sorted(seen):
            yield from (variant + suffix for suffix in _SUFFIX_VARIANTS)


def normalise_class_names(names: list[str]) -> list[str]:
    """Normalise class names; empty and repeated ones are removed, the others sorted."""
    return sorted({normalise_class_name(name) for name in names} - {""})
