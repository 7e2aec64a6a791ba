"""Names that become file and folder names: validated where a user gives them, made safe where a record does."""

import re
import unicodedata
from typing import Annotated

from pydantic import AfterValidator

_MAX_BYTES = 120  # file systems allow 255; numbers, tokens and suffixes are added
_FOLDER_NAME = re.compile(r"[\w+][\w.,+ -]*")
_UNSAFE = re.compile(r"[^\w.+@-]+")


def validate_folder_name(name: str) -> str:
    """Return the name unchanged if it can safely name a folder.

    Raises:
        ValueError: It is empty, too long, or has characters that file systems or shells treat specially.
    """
    if not _FOLDER_NAME.fullmatch(name) or name != name.strip():
        raise ValueError(
            "it names a folder: use letters, digits, spaces and . , + - _ only, and begin with a letter, a digit, "
            "_ or +"
        )
    if len(name.encode()) > _MAX_BYTES:
        raise ValueError(f"it names a folder: use at most {_MAX_BYTES} bytes")
    return name


def slugify(name: object) -> str:
    """Turn any text into a file name without folders; letters and digits are kept.

    Example:
        >>> slugify("../my run")
        'my-run'
    """
    text = _UNSAFE.sub("-", unicodedata.normalize("NFC", str(name)).encode(errors="replace").decode())
    short = text.encode()[:_MAX_BYTES].decode(errors="ignore").strip(".-")
    return short or "run"


FolderName = Annotated[str, AfterValidator(validate_folder_name)]
