"""Content hashes that are not computed anew for files that did not change."""

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
_SETTLED_NS = 2_000_000_000  # file systems keep times to 2 s at worst


class _Stat(NamedTuple):
    """What tells that a file is the one it was: bytes, times in ns, number on the disk."""

    size: int
    modified: int
    changed: int
    inode: int


class HashCache:
    """SHA-256 of files below a folder, kept in a file of its own from one scan to the next.

    A file whose size, times (of its content and of its entry) and number on the disk are those of last time is not
    read again. Times that lie less than 2 s before the reading, or after it, are not trusted: the file may have been
    written once more within the same tick, or the clock was set back.
    """

    def __init__(self, folder: str, connection: sqlite3.Connection | None = None) -> None:
        self._folder = folder
        self._connection = connection
        self.read = 0  # files whose bytes were read

    def of(self, names: Sequence[str]) -> list[str | None]:
        """64 hex digits a name, None for a file that cannot be read."""
        found = {name: self._kept(name) for name in names}
        unknown = [name for name, (_, digest) in found.items() if digest is None]
        with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
            digests = dict(zip(unknown, pool.map(self._digest, unknown), strict=True))
        self.read += len(unknown)
        self._keep((name, *stat, digest) for name, (stat, digest) in digests.items() if stat is not None)
        return [found[name][1] or digests[name][1] for name in names]

    def _kept(self, name: str) -> tuple[_Stat | None, str | None]:
        stat = self._stat(name)
        if stat is None or self._connection is None:
            return stat, None
        row = self._connection.execute("SELECT * FROM hashes WHERE name = ?", (name,)).fetchone()
        return stat, row[5] if row is not None and row[1:5] == stat else None

    def _digest(self, name: str) -> tuple[_Stat | None, str | None]:
        """The hash, and what tells the file where that can be trusted next time."""
        began, before = time.time_ns(), self._stat(name)
        if before is None or before.size > MAX_BYTES:  # not read when it is mined either; a sparse file takes hours
            return None, None
        try:
            digest = sha256_of(Path(self._folder, name))
        except OSError:
            return None, None
        is_settled = max(before.modified, before.changed) < began - _SETTLED_NS
        return before if is_settled and self._stat(name) == before else None, digest

    def _keep(self, rows: Iterator[tuple[object, ...]]) -> None:
        if self._connection is not None:
            with self._connection:
                self._connection.executemany("INSERT OR REPLACE INTO hashes VALUES (?, ?, ?, ?, ?, ?)", rows)

    def _stat(self, name: str) -> _Stat | None:
        try:
            found = os.stat(f"{self._folder}/{name}")
        except OSError:
            return None
        return _Stat(found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino)


@contextmanager
def open_hash_cache(folder: str, path: Path | None) -> Iterator[HashCache]:
    """Hashes of the files below `folder`, kept in `path`; None keeps nothing. A damaged `path` is begun anew."""
    if path is None:
        yield HashCache(folder)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with closing(_opened(path)) as connection:
        yield HashCache(folder, connection)


def _opened(path: Path) -> sqlite3.Connection:
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
