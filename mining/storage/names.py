"""Names that become names of files and folders: checked where a person gives them, made safe where a record does."""

import re
import unicodedata
from typing import Annotated

from pydantic import AfterValidator

_LONGEST_BYTES = 120  # file systems take 255, and ours come with numbers, tokens and suffixes
_POSSIBLE = re.compile(r"[\w+][\w.,+ -]*")
_NOT_IN_A_SLUG = re.compile(r"[^\w.+@-]+")


def validate_folder_name(name: str) -> str:
    """The name as it is; raises ValueError where it cannot safely be the name of a folder."""
    if not _POSSIBLE.fullmatch(name) or name != name.strip():
        raise ValueError(
            "it becomes a folder: give letters, digits and . , + - _ or spaces between them, and begin with a letter "
            "or a digit"
        )
    if len(name.encode()) > _LONGEST_BYTES:
        raise ValueError(f"it becomes a folder: give at most {_LONGEST_BYTES} bytes")
    return name


def slugify(name: object) -> str:
    """A name of a file that lies in no other folder, whatever a record says; letters and digits stay."""
    text = _NOT_IN_A_SLUG.sub("-", unicodedata.normalize("NFC", str(name)).encode(errors="replace").decode())
    short = text.encode()[:_LONGEST_BYTES].decode(errors="ignore").strip(".-")
    return short or "run"


FolderName = Annotated[str, AfterValidator(validate_folder_name)]
