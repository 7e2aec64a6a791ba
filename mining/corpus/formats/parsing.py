"""Values and reading errors that the formats share."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mining.errors import CorpusError
from mining.storage.untrusted_files import LongLineError


@contextmanager
def label_file_errors(path: Path) -> Iterator[None]:
    """Turn errors while reading a label file into a CorpusError that names the file.

    Raises:
        CorpusError: The file cannot be read, or is not UTF-8 text.
    """
    try:
        yield
    except UnicodeDecodeError as error:
        raise CorpusError(f"{path} is not UTF-8 text ({error.reason}). Save it again in UTF-8.") from error
    except LongLineError as error:
        raise CorpusError(f"{path}: {error}. Check that it is a text file.") from error
    except OSError as error:
        raise CorpusError(f"Cannot read {path}: {error.strerror or error}.") from error


_INT64 = range(-(2**63), 2**63)


def parse_int64(value: object) -> int | None:
    """Convert a value to a 64-bit integer; None if it is not a whole number in that range."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) and value in _INT64 else None


def parse_image_size(width: object, height: object) -> tuple[int | None, int | None]:
    """Convert width and height to positive 32-bit integers, in pixels; (None, None) if either is not."""
    w, h = parse_int64(width), parse_int64(height)
    return (w, h) if w and h and 0 < w < 2**31 and 0 < h < 2**31 else (None, None)


def is_flag_set(value: Any) -> bool:
    """Whether a flag such as `difficult` is set: 1, true or yes. All else, such as VOC's 'Unspecified', is not set."""
    if not value:
        return False
    if isinstance(value, str):
        return value.strip().lower() in ("1", "true", "yes")
    return isinstance(value, bool | int | float) and value == 1
