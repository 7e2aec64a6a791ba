"""A cache of content hashes: files that did not change are not read again."""

import os
import sqlite3
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from typing import NamedTuple

from mining.corpus.images.image_file import MAX_BYTES
from mining.storage.files import sha256_of

_TABLE = """CREATE TABLE IF NOT EXISTS hashes
            (name TEXT PRIMARY KEY, size INT, modified INT, changed INT, inode INT, hash TEXT) WITHOUT ROWID"""
_TIMESTAMP_RESOLUTION_NS = 2_000_000_000  # the coarsest of common file systems


class _Stat(NamedTuple):
    """Identifies the state of a file: size in bytes, times of content and inode change in ns, inode number."""

    size: int
    modified: int
    changed: int
    inode: int


class HashCache:
    """SHA-256 of the files below a folder, stored in an SQLite file from one scan to the next.

    A file whose size, timestamps and inode are those of the last scan is not read again. Timestamps that lie less than
    2 s before the reading, or after it, are not trusted: the file may have been written again within the resolution of
    the clock, or the clock was set back.

    Args:
        folder: The folder that names are relative to.
        connection: The SQLite file; None stores nothing.

    Attributes:
        files_read: Number of files whose content was read.
    """

    def __init__(self, folder: str, connection: sqlite3.Connection | None = None) -> None:
        self._folder = folder
        self._connection = connection
        self.files_read = 0

    def compute(self, names: Sequence[str]) -> list[str | None]:
        """Return the SHA-256 of each file, 64 hex digits; None for a file that cannot be read."""
        cached = {name: self._look_up(name) for name in names}
        unknown = [name for name, (_, digest) in cached.items() if digest is None]
        with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
            digests = dict(zip(unknown, pool.map(self._digest, unknown), strict=True))
        self.files_read += len(unknown)
        self._store((name, *stat, digest) for name, (stat, digest) in digests.items() if stat is not None)
        return [cached[name][1] or digests[name][1] for name in names]

    def _look_up(self, name: str) -> tuple[_Stat | None, str | None]:
        stat = self._stat(name)
        if stat is None or self._connection is None:
            return stat, None
        row = self._connection.execute("SELECT * FROM hashes WHERE name = ?", (name,)).fetchone()
        return stat, row[5] if row is not None and row[1:5] == stat else None

    def _digest(self, name: str) -> tuple[_Stat | None, str | None]:
        """The hash, and the state of the file if that can be trusted in the next scan."""
        start, before = time.time_ns(), self._stat(name)
        if before is None or before.size > MAX_BYTES:  # mining does not read it either; a sparse file would take hours
            return None, None
        try:
            digest = sha256_of(Path(self._folder, name))
        except OSError:
            return None, None
        is_settled = max(before.modified, before.changed) < start - _TIMESTAMP_RESOLUTION_NS
        return before if is_settled and self._stat(name) == before else None, digest

    def _store(self, rows: Iterator[tuple[object, ...]]) -> None:
        if self._connection is not None:
            with self._connection:
                self._connection.executemany("INSERT OR REPLACE INTO hashes VALUES (?, ?, ?, ?, ?, ?)", rows)

    def _stat(self, name: str) -> _Stat | None:
        try:
            status = os.stat(f"{self._folder}/{name}")
        except OSError:
            return None
        return _Stat(status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)


@contextmanager
def open_hash_cache(folder: str, path: Path | None) -> Iterator[HashCache]:
    """Open a cache of hashes.

    Args:
        folder: The folder of the files.
        path: The file that stores the hashes, which is replaced if damaged; None stores nothing.
    """
    if path is None:
        yield HashCache(folder)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with closing(_connect(path)) as connection:
        yield HashCache(folder, connection)


def _connect(path: Path) -> sqlite3.Connection:
    for _ in range(2):
        connection = sqlite3.connect(path)
        try:
            connection.execute("PRAGMA synchronous = OFF")
            connection.execute(_TABLE)
            connection.execute("SELECT count(*) FROM (SELECT * FROM hashes LIMIT 1)").fetchone()
            if connection.execute("PRAGMA quick_check(1)").fetchone() != ("ok",):
                raise sqlite3.DatabaseError("damaged")
            return connection
        except sqlite3.DatabaseError:
            connection.close()
            path.unlink(missing_ok=True)
    raise AssertionError("a new file is not damaged")
