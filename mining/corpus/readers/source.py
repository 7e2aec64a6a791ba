"""What a reader gives besides the rows."""

from dataclasses import dataclass, field
from pathlib import Path

from mining.corpus.names import class_name


@dataclass(frozen=True)
class Source:
    """A listing as a whole.

    kind: a key of KINDS. path: the label file or folder, None where the image folder itself is the listing.
    category_ids: class name -> id where the listing numbers its classes. notes: sentences for a person.
    """

    kind: str
    path: Path | None = None
    category_ids: dict[str, int] | None = None
    notes: list[str] = field(default_factory=list)


def class_names(names: list[str]) -> list[str]:
    """The names as they are compared, without empty ones, each once, sorted."""
    return sorted({class_name(name) for name in names} - {""})
