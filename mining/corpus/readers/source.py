"""What a reader gives besides the rows, and the errors that all readers share."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from mining.errors import CorpusError
from mining.untrusted import LongLineError


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


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """Turn what goes wrong in reading a label file into a CorpusError that names it."""
    try:
        yield
    except UnicodeDecodeError as error:
        raise CorpusError(
            f"{path} is not UTF-8 text ({error.reason}). Save it again with the encoding UTF-8."
        ) from error
    except LongLineError as error:
        raise CorpusError(f"{path}: {error}. Is it a text file?") from error
    except OSError as error:
        raise CorpusError(f"Cannot read {path}: {error.strerror or error}.") from error


def class_names(names: list[str]) -> list[str]:
    """The names without spaces around, without empty ones, each once, sorted."""
    return sorted({name.strip() for name in names} - {""})
