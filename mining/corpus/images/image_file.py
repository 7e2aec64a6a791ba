"""Read the bytes of an image file: checked before they are read, and in chunks, so that a thread can be stopped."""

import hashlib
import io
import os
import stat
import threading
from pathlib import Path

from PIL import UnidentifiedImageError

from mining.errors import ImageError, RunStoppedError

MAX_BYTES = 1_000_000_000
_SMALL_BYTES = 1_000_000  # files up to this size are read at once
_CHUNK_BYTES = 16_000_000
_MAX_HEADER_READS = 100_000  # Pillow skips junk byte by byte, which takes minutes in a large file of junk


class _Counted:
    """Stops reading when the thread is to stop, or when a header is too long."""

    is_header = True
    _reads = 0

    def _count(self) -> None:
        check_stopped()
        self._reads += 1
        if self.is_header and self._reads > _MAX_HEADER_READS:
            raise UnidentifiedImageError("the header is too long")


class SmallFile(io.BytesIO):
    """An image file in memory, too small for anything in it to take long."""

    is_in_memory = True

    @property
    def size(self) -> int:
        """Size in bytes."""
        return self.getbuffer().nbytes

    def read_whole(self) -> bytes:
        """All bytes."""
        return self.getvalue()


class LargeBytes(_Counted, io.BytesIO):
    """A large image file in memory, whose header was read from disk before."""

    is_header = False

    def read(self, size: int | None = -1, /) -> bytes:
        """Read like BytesIO."""
        self._count()
        return super().read(size)


class LargeFile(_Counted, io.BufferedReader):
    """An image file on disk, of which only the requested parts are read.

    Args:
        path: The file.
        size: Its size in bytes.
    """

    is_in_memory = False

    def __init__(self, path: Path, size: int) -> None:
        super().__init__(io.FileIO(path))
        self.size = size

    def read(self, size: int | None = -1, /) -> bytes:
        """Read like BufferedReader."""
        self._count()
        return super().read(size)

    def read_whole(self) -> bytes:
        """All bytes, up to the size that the file had when it was opened."""
        self.seek(0)
        whole = bytearray()
        while chunk := super().read(min(_CHUNK_BYTES, self.size - len(whole))):
            check_stopped()
            whole += chunk
        return bytes(whole)


def open_image_file(path: Path, most: int = MAX_BYTES) -> SmallFile | LargeFile:
    """Open an image file to read its header.

    Args:
        path: The file.
        most: Most bytes.

    Raises:
        ImageError: It is not a regular file, is empty, or has more than `most` bytes.
        OSError: It cannot be opened.
    """
    size = _size_of(path, most)
    return SmallFile(path.read_bytes()) if size <= _SMALL_BYTES else LargeFile(path, size)


def sha256_of_image(path: Path) -> str:
    """Compute the SHA-256 of an image file, as 64 hex digits.

    Raises:
        ImageError: It is not a regular file, or has more than MAX_BYTES bytes.
        OSError: It cannot be read.
        RunStoppedError: The thread is to stop.
    """
    _size_of(path, MAX_BYTES, may_be_empty=True)
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            check_stopped()
            digest.update(chunk)
    return digest.hexdigest()


def _size_of(path: Path, most: int, *, may_be_empty: bool = False) -> int:
    status = os.stat(path)
    if not stat.S_ISREG(status.st_mode):  # reading a pipe would block, and a device may never end
        raise ImageError(f"{path}: cannot be opened (it is not a regular file).")
    if status.st_size > most:
        raise ImageError(f"{path}: {status.st_size:,} bytes, more than the limit of {most:,}. Reduce the image.")
    if not status.st_size and not may_be_empty:
        raise ImageError(f"{path}: the file is empty (0 bytes).")
    return status.st_size


_of_thread = threading.local()


def set_stop_event(event: threading.Event) -> None:
    """Make `check_stopped` raise in this thread once the event is set."""
    _of_thread.event = event


def check_stopped() -> None:
    """Raise RunStoppedError if this thread is to stop; called between the steps of long work."""
    event = getattr(_of_thread, "event", None)
    if event is not None and event.is_set():
        raise RunStoppedError("Stopped. Finished work is kept; run the same command again to resume.")
