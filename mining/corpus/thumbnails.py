"""Small versions of images, by which near-duplicates are found: decoded once and kept in the user's cache folder."""

import hashlib
import os
import re
import sqlite3
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from mining.arrays import Bytes
from mining.errors import ImageError
from mining.storage.cache import cache_folder

SIDE = 48  # px
CHROMA_SIDE = 12  # px
CACHE_BYTES = 1_000_000_000
_NEEDED = 64  # px, of the decoded image: more than SIDE, so that reducing it smooths the blocks of JPEG
_HASH_BYTES = 8
_LUMA_BYTES, _CHROMA_BYTES = SIDE * SIDE, CHROMA_SIDE * CHROMA_SIDE * 2
BYTES = _LUMA_BYTES + _CHROMA_BYTES + 2 * _HASH_BYTES
_VERSION = 1  # of the rules by which a thumbnail is made
_NAME = re.compile(r"[0-9a-f]{24}-\d+\.sqlite")
_BATCH = 64
_TIMESTAMP_RESOLUTION_NS = 2_000_000_000  # the coarsest of common file systems
_TABLE = "CREATE TABLE IF NOT EXISTS thumbnails (name TEXT PRIMARY KEY, size INT, modified INT, value BLOB)"


class Thumbnail(NamedTuple):
    """An upright image, squeezed into a square.

    Attributes:
        luma: (SIDE, SIDE) uint8.
        chroma: (CHROMA_SIDE, CHROMA_SIDE, 2) uint8, Cr and Cb; 128 is grey.
        hashes: (2,) uint64 perceptual hashes, of the image and of its mirror image.
    """

    luma: Bytes
    chroma: Bytes
    hashes: "np.ndarray[tuple[int], np.dtype[np.uint64]]"

    def to_bytes(self) -> bytes:
        """Return BYTES bytes."""
        return self.luma.tobytes() + self.chroma.tobytes() + self.hashes.astype("<u8").tobytes()

    @classmethod
    def from_bytes(cls, data: bytes | Bytes) -> "Thumbnail":
        """Return the thumbnail of BYTES bytes."""
        values = np.frombuffer(data, np.uint8)
        luma, chroma, hashes = np.split(values, [_LUMA_BYTES, _LUMA_BYTES + _CHROMA_BYTES])
        return cls(
            luma.reshape(SIDE, SIDE), chroma.reshape(CHROMA_SIDE, CHROMA_SIDE, 2), hashes.view("<u8").astype(np.uint64)
        )


def read_thumbnail(path: Path) -> Thumbnail:
    """Decode an image file, a JPEG at a fraction of its size, and reduce it.

    Args:
        path: The file.

    Raises:
        ImageError: The file cannot be decoded.
    """
    from mining.corpus.images.decoding import decode_image, resize_image  # imports torch

    with decode_image(path, lambda height, width: (min(height, _NEEDED), min(width, _NEEDED))) as (pixels, _):
        return make_thumbnail(resize_image(pixels, (SIDE, SIDE)).permute(1, 2, 0).contiguous().numpy())


def make_thumbnail(pixels: Bytes) -> Thumbnail:
    """Make a thumbnail.

    Args:
        pixels: (SIDE, SIDE, 3) uint8 RGB.
    """
    import cv2

    planes: Any = cv2.cvtColor(pixels, cv2.COLOR_RGB2YCrCb)
    luma = np.ascontiguousarray(planes[..., 0])
    chroma: Any = cv2.resize(planes[..., 1:], (CHROMA_SIDE, CHROMA_SIDE), interpolation=cv2.INTER_AREA)
    hashes = np.array([_perceptual_hash(luma), _perceptual_hash(luma[:, ::-1])], np.uint64)
    return Thumbnail(luma, chroma, hashes)


def _perceptual_hash(luma: Bytes) -> int:
    import imagehash
    from PIL import Image

    return int.from_bytes(
        np.packbits(imagehash.phash(Image.fromarray(np.ascontiguousarray(luma))).hash).tobytes(), "big"
    )


class _State(NamedTuple):
    """Identifies the state of a file: bytes, and time of its last change in ns.

    The inode is not part of it, nor the time of its change: an export that hard-links the file changes that.
    """

    size: int
    modified: int


def iter_thumbnails(
    root: Path, names: Sequence[str], *, workers: int | None = None
) -> Iterator[list[Thumbnail | ImageError]]:
    """Yield the thumbnails of images in batches, in the given order; of one that cannot be read, why.

    Files whose size and time of change are those of an earlier call are not read again. Where the cache cannot be
    written, they are.

    Args:
        root: The folder of the images.
        names: File names relative to it.
        workers: Threads that decode; by default one per core, at most eight.
    """
    with (
        _open_cache(root) as cache,
        ThreadPoolExecutor(workers or min(8, os.cpu_count() or 1)) as pool,
    ):
        for first in range(0, len(names), _BATCH):
            batch = names[first : first + _BATCH]
            states = {name: _state(root / name) for name in batch}
            found: dict[str, Thumbnail | ImageError] = dict(cache.look_up(states))
            start, unknown = time.time_ns(), [name for name in batch if name not in found]
            read = dict(zip(unknown, pool.map(lambda name: _try(root, name), unknown), strict=True))
            cache.store(
                (name, state, one)
                for name, one in read.items()
                if isinstance(one, Thumbnail) and (state := states[name]) is not None
                and state.modified < start - _TIMESTAMP_RESOLUTION_NS and _state(root / name) == state
            )  # fmt: skip
            found |= read
            yield [found[name] for name in batch]


def _try(root: Path, name: str) -> Thumbnail | ImageError:
    from mining.corpus.images.decoding import resolve_image_path

    try:
        return read_thumbnail(resolve_image_path(root, name))
    except ImageError as error:
        return error


def _state(path: Path) -> _State | None:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return _State(status.st_size, status.st_mtime_ns)


class _Cache:
    """The thumbnails of the images below a folder in an SQLite file; None keeps nothing."""

    def __init__(self, connection: sqlite3.Connection | None) -> None:
        self._connection = connection

    def look_up(self, states: "dict[str, _State | None]") -> Iterator[tuple[str, Thumbnail]]:
        """Yield the thumbnails of the files that are in the given state, by name."""
        for name, state in states.items() if self._connection is not None else ():
            with suppress(sqlite3.Error):
                assert self._connection is not None
                row = self._connection.execute("SELECT * FROM thumbnails WHERE name = ?", (name,)).fetchone()
                if row is not None and row[1:3] == state and len(row[3]) == BYTES:
                    yield name, Thumbnail.from_bytes(row[3])

    def store(self, rows: Iterator[tuple[str, _State, Thumbnail]]) -> None:
        """Keep thumbnails, unless the disk is full or another process writes for long."""
        if self._connection is not None:
            with suppress(sqlite3.Error), self._connection:
                self._connection.executemany(
                    "INSERT OR REPLACE INTO thumbnails VALUES (?, ?, ?, ?)",
                    ((name, *state, thumbnail.to_bytes()) for name, state, thumbnail in rows),
                )


@contextmanager
def _open_cache(root: Path) -> Iterator[_Cache]:
    folder = cache_folder("thumbnails")
    key = hashlib.sha256(os.path.realpath(root).encode(errors="surrogateescape")).hexdigest()[:24]
    path = folder / f"{key}-{_VERSION}.sqlite"
    connection = None
    with suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
        _delete_oldest(folder, path)
        connection = _connect(path)
    try:
        yield _Cache(connection)
    finally:
        if connection is not None:
            connection.close()


def _connect(path: Path) -> sqlite3.Connection | None:
    """The SQLite file, made again if it is damaged; None if that is not possible."""
    for _ in range(2):
        connection = None
        try:
            connection = sqlite3.connect(path, timeout=10.0)
            connection.execute("PRAGMA synchronous = OFF")
            connection.execute(_TABLE)
            return connection
        except sqlite3.Error as error:
            if connection is not None:
                connection.close()
            if isinstance(error, sqlite3.OperationalError):  # locked, read-only, or no such folder
                return None
            path.unlink(missing_ok=True)
    return None


def _delete_oldest(folder: Path, needed: Path) -> None:
    """Delete this module's files of other image folders, oldest first, until all take at most CACHE_BYTES."""
    own = [one for one in folder.glob("*.sqlite") if _NAME.fullmatch(one.name)]
    found = sorted((one.stat().st_mtime_ns, one.stat().st_size, one) for one in own)
    total = sum(size for _, size, _ in found)
    for _, size, path in found:
        if total > CACHE_BYTES and path != needed:
            path.unlink(missing_ok=True)
            total -= size
