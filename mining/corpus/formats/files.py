"""The errors of reading that all formats share."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mining.errors import CorpusError
from mining.storage.untrusted_files import LongLineError


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
