"""The bytes of an image file: looked at before they are read, and read in pieces, so that a thread can be stopped."""

import hashlib
import io
import os
import stat
import threading
from pathlib import Path

from PIL import UnidentifiedImageError

from mining.errors import ImageError, RunStoppedError

MAX_BYTES = 1_000_000_000
_SMALL = 1_000_000  # bytes; files up to this size are read at once
_PIECE = 16_000_000
_MAX_READS = 100_000  # of a header: Pillow skips junk byte by byte, which takes minutes in a file that is all junk


class _Counted:
    """Reads that end when the thread is to stop, or when a header goes on for too long."""

    is_header = True
    _reads = 0

    def _count(self) -> None:
        check_stopped()
        self._reads += 1
        if self.is_header and self._reads > _MAX_READS:
            raise UnidentifiedImageError("the header has no end")


class SmallFile(io.BytesIO):
    """An image file in memory; so small that nothing in it takes long to read."""

    is_in_memory = True

    @property
    def size(self) -> int:
        """Bytes."""
        return self.getbuffer().nbytes

    def read_whole(self) -> bytes:
        """All bytes."""
        return self.getvalue()


class LargeBytes(_Counted, io.BytesIO):
    """A large file in memory, whose header was read from the disk before."""

    is_header = False

    def read(self, size: int | None = -1, /) -> bytes:
        """As BytesIO does."""
        self._count()
        return super().read(size)


class LargeFile(_Counted, io.BufferedReader):
    """An image file on the disk, of which as much is read as is asked for."""

    is_in_memory = False

    def __init__(self, path: Path, size: int) -> None:
        super().__init__(io.FileIO(path))
        self.size = size

    def read(self, size: int | None = -1, /) -> bytes:
        """As BufferedReader does."""
        self._count()
        return super().read(size)

    def read_whole(self) -> bytes:
        """All bytes, as many as there were when the file was opened."""
        self.seek(0)
        whole = bytearray()
        while piece := super().read(min(_PIECE, self.size - len(whole))):
            check_stopped()
            whole += piece
        return bytes(whole)


def open_image_file(path: Path, most: int = MAX_BYTES) -> SmallFile | LargeFile:
    """Open a file to look at its header.

    Raises ImageError for what is no regular file, is empty or has more than `most` bytes.
    """
    size = _size_of(path, most)
    return SmallFile(path.read_bytes()) if size <= _SMALL else LargeFile(path, size)


def sha256_of_image(path: Path) -> str:
    """64 hex digits. Raises OSError, ImageError for what is no regular file or too large."""
    _size_of(path, MAX_BYTES, may_be_empty=True)
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(_PIECE):
            check_stopped()
            digest.update(piece)
    return digest.hexdigest()


def _size_of(path: Path, most: int, *, may_be_empty: bool = False) -> int:
    found = os.stat(path)
    if not stat.S_ISREG(found.st_mode):  # a pipe would be waited for, a device never ends
        raise ImageError(f"{path}: cannot be opened (it is not a file).")
    if found.st_size > most:
        raise ImageError(f"{path}: more than {most:,} bytes; reduce the image first.")
    if not found.st_size and not may_be_empty:
        raise ImageError(f"{path}: the file is empty (0 bytes).")
    return found.st_size


_of_thread = threading.local()


def set_stop_event(event: threading.Event) -> None:
    """Let `check_stopped` end what this thread does once the event is set."""
    _of_thread.event = event


def check_stopped() -> None:
    """Raise RunStoppedError where this thread is to stop; to be called between pieces of long work."""
    event = getattr(_of_thread, "event", None)
    if event is not None and event.is_set():
        raise RunStoppedError("Stopped. What is finished is kept; run the same command again to resume.")
