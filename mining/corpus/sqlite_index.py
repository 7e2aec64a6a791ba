"""A listing on its way to the table: sorted, joined and freed of duplicates on disk, so that memory stays constant."""

import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from mining.corpus.formats.parsing import parse_image_size
from mining.corpus.listing import ListedImage
from mining.corpus.path_tails import PathTailIndex
from mining.errors import StorageError
from mining.storage.files import storage_errors
from mining.storage.ownership import temporary_path

if TYPE_CHECKING:
    from mining.corpus.formats.coco import CocoImage

# the names are primary keys, so that sorted reading needs no sorter, which would spill to another disk
_TABLES = """
PRAGMA journal_mode = OFF;
PRAGMA synchronous = OFF;
PRAGMA locking_mode = EXCLUSIVE;
PRAGMA cache_size = -48000;
CREATE TABLE listed (name TEXT, row INTEGER, labels TEXT, split TEXT, source_id INTEGER, width INTEGER, height INTEGER,
                     own_name TEXT, PRIMARY KEY (name, row)) WITHOUT ROWID;
CREATE TABLE disk (name TEXT PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE absent (name TEXT);
CREATE TABLE absent_own (name TEXT, own_name TEXT);
BEGIN;
"""
_DISK_REFUSED = {sqlite3.SQLITE_FULL, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_IOERR}


class ValuesById:
    """Pairs of a source's id and a value, on disk; the same pair is kept once."""

    def __init__(self, connection: sqlite3.Connection, name: str) -> None:
        self._connection, self._name = connection, name
        connection.execute(f"CREATE TABLE {name} (id TEXT, value TEXT, PRIMARY KEY (id, value)) WITHOUT ROWID")

    def add(self, pairs: Iterable[tuple[str, str]]) -> None:
        """Keep the pairs."""
        self._connection.executemany(f"INSERT OR IGNORE INTO {self._name} VALUES (?, ?)", pairs)

    def of(self, identity: str) -> list[str]:
        """The values of an id, sorted."""
        found = self._connection.execute(f"SELECT value FROM {self._name} WHERE id = ? ORDER BY value", (identity,))
        return [value for (value,) in found]


class CocoImageIndex:
    """The images of a COCO file by their ids, on disk; iterate for (key, name, number, width, height, is_incomplete).

    is_incomplete: an annotation of the image could not be used.
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        connection.execute(
            "CREATE TABLE coco_images (place INTEGER PRIMARY KEY, key TEXT UNIQUE, name TEXT, number INTEGER, "
            "width INTEGER, height INTEGER, is_incomplete INTEGER DEFAULT 0)"
        )

    def get(self, key: str) -> str | None:
        """The name of an image, '' for one that was left out, None where there is no such key."""
        found = self._connection.execute("SELECT name FROM coco_images WHERE key = ?", (key,)).fetchone()
        return found[0] if found else None

    def add(self, image: "CocoImage") -> str | None:
        """Keep an image under its key. Where the key has a name, that stays, and is given back."""
        row = (image.key, image.name, image.number, *parse_image_size(image.width, image.height))
        query = "INTO coco_images (key, name, number, width, height) VALUES (?, ?, ?, ?, ?)"
        if self._connection.execute(f"INSERT OR IGNORE {query}", row).rowcount:
            return None
        earlier = self.get(image.key)
        if not earlier:
            self._connection.execute(f"INSERT OR REPLACE {query}", row)
        return earlier or None

    def mark_incomplete(self, key: str) -> None:
        """Note that an annotation of the image could not be used."""
        self._connection.execute("UPDATE coco_images SET is_incomplete = 1 WHERE key = ?", (key,))

    def __iter__(self) -> Iterator[tuple[str, str, int | None, int | None, int | None, bool]]:
        query = (
            "SELECT key, name, number, width, height, is_incomplete FROM coco_images WHERE name <> '' ORDER BY place"
        )
        return iter(self._connection.execute(query))


class CorpusIndex:
    """The tables of one scan: what is listed, and what lies on the disk."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def _one(self, query: str, *values: Any) -> Any:
        found = self._connection.execute(query, values).fetchone()
        return found[0] if found else None

    def relation(self, name: str) -> ValuesById:
        """A new, empty relation."""
        return ValuesById(self._connection, name)

    def image_ids(self) -> CocoImageIndex:
        """A new, empty list of images by their ids."""
        return CocoImageIndex(self._connection)

    def path_ends(self) -> PathTailIndex:
        """How the names of this table may be looked up by the end of their paths."""
        return PathTailIndex(self._connection)

    def add_listed(self, rows: Iterable[ListedImage]) -> int:
        """Take in a listing; gives its number of rows."""
        encoded = (
            (row.name, number, None if row.labels is None else orjson.dumps(row.labels).decode(), *row[2:])
            for number, row in enumerate(rows)
        )
        return self._connection.executemany("INSERT INTO listed VALUES (?, ?, ?, ?, ?, ?, ?, ?)", encoded).rowcount

    def add_disk(self, names: Iterable[str]) -> None:
        """Take in names of image files that exist."""
        self._connection.executemany("INSERT OR IGNORE INTO disk VALUES (?)", ((name,) for name in names))

    def disk(self) -> Iterator[str]:
        """The names of the image files, sorted."""
        return (name for (name,) in self._connection.execute("SELECT name FROM disk ORDER BY name"))

    def holds(self, name: str) -> bool:
        """Whether an image file of this name exists."""
        return self._one("SELECT 1 FROM disk WHERE name = ?", name) is not None

    def not_on_disk(self) -> Iterator[str]:
        """The listed names that no image file has, sorted; each may be renamed before the next is asked for."""
        there = "SELECT 1 FROM disk WHERE disk.name = listed.name"
        self._connection.execute("DELETE FROM absent")
        self._connection.execute(
            f"INSERT INTO absent SELECT DISTINCT name FROM listed WHERE NOT EXISTS ({there}) ORDER BY name"
        )
        return (name for (name,) in self._connection.execute("SELECT name FROM absent"))

    def rename(self, name: str, found: str) -> None:
        """Give a listed image the name that its file has."""
        self.add_disk([found])
        self._connection.execute("UPDATE listed SET name = ? WHERE name = ?", (found, name))

    def prefer_own_names(self) -> tuple[int, str]:
        """Give rows that share a name, of other rows too, the names of their own; how many these are, and the first."""
        shared = "name IN (SELECT name FROM listed GROUP BY name HAVING count(*) > 1) AND own_name IS NOT NULL"
        count, first = self._connection.execute(f"SELECT count(*), min(name) FROM listed WHERE {shared}").fetchone()
        if count:
            self._connection.execute(f"UPDATE listed SET name = own_name, own_name = NULL WHERE {shared}")
        return int(count), str(first or "")

    def name_of_two_sizes(self) -> str | None:
        """A name that rows of different width or height share, so that it stands for different images."""
        sized = "SELECT name FROM listed WHERE width IS NOT NULL GROUP BY name"
        return self._one(f"{sized} HAVING min(width) <> max(width) OR min(height) <> max(height) LIMIT 1")

    def own_names_of_absent(self) -> Iterator[tuple[str, str]]:
        """The pairs of name and other name of those rows whose name no image file has."""
        there = "SELECT 1 FROM disk WHERE disk.name = listed.name"
        query = f"SELECT name, own_name FROM listed WHERE own_name IS NOT NULL AND NOT EXISTS ({there}) ORDER BY name"
        self._connection.execute(f"INSERT INTO absent_own {query}")
        return iter(self._connection.execute("SELECT name, own_name FROM absent_own"))

    def is_listed(self, name: str) -> bool:
        """Whether a row has this name."""
        return self._one("SELECT 1 FROM listed WHERE name = ? LIMIT 1", name) is not None

    def names_by_row(self) -> Iterator[tuple[int, str, bool]]:
        """Each row's number and name, and whether there is such an image file; in the order of the listing."""
        query = "SELECT row, listed.name, disk.name IS NOT NULL FROM listed LEFT JOIN disk USING (name) ORDER BY row"
        for row, name, is_present in self._connection.execute(query):
            yield row, name, bool(is_present)

    def first_listed(self, split: str | None) -> str:
        """The listed name that sorts first, of a split or of all."""
        return str(self._one("SELECT name FROM listed WHERE ?1 IS NULL OR split = ?1 ORDER BY name LIMIT 1", split))

    def any_present(self, split: str | None) -> bool:
        """Whether a listed image of the split (None = of any) has a file."""
        query = "SELECT 1 FROM listed JOIN disk USING (name) WHERE ?1 IS NULL OR split = ?1 LIMIT 1"
        return self._one(query, split) is not None

    def listed_and_present(self, split: str | None) -> tuple[int, int]:
        """The number of listed images of the split (None = of any), and of those that have a file."""
        query = """SELECT count(DISTINCT listed.name), count(DISTINCT disk.name)
                   FROM listed LEFT JOIN disk USING (name) WHERE ?1 IS NULL OR split = ?1"""
        listed, present = self._connection.execute(query, (split,)).fetchone()
        return int(listed), int(present)

    def some_listed(self, split: str | None, count: int) -> list[str]:
        """All listed names of the split (None = of any), or `count` of them, evenly spread."""
        listed, _ = self.listed_and_present(split)
        step = max(1, listed / count)
        query = "SELECT DISTINCT name FROM listed WHERE ?1 IS NULL OR split = ?1 ORDER BY name"
        wanted = {int(number * step) for number in range(min(count, listed))}
        found = self._connection.execute(query, (split,))
        return [name for number, (name,) in enumerate(found) if number in wanted]

    def count_on_disk(self, names: Iterable[str]) -> int:
        """How many of the names image files have."""
        return sum(self.holds(name) for name in names)

    def unlisted(self) -> int:
        """The number of image files that no row names."""
        there = "SELECT 1 FROM listed WHERE listed.name = disk.name"
        return int(self._one(f"SELECT count(*) FROM disk WHERE NOT EXISTS ({there})"))

    def splits(self) -> list[str]:
        """The splits that the listing names, sorted."""
        found = self._connection.execute("SELECT DISTINCT split FROM listed WHERE split IS NOT NULL")
        return sorted(split for (split,) in found)

    def is_empty(self) -> bool:
        """Whether no row is listed."""
        return self._one("SELECT 1 FROM listed LIMIT 1") is None

    def has_ids(self) -> bool:
        """Whether every row has an id of its source."""
        return self._one("SELECT 1 FROM listed WHERE source_id IS NULL LIMIT 1") is None

    def like_suffix(self, name: str) -> str | None:
        """An image file whose path ends in '/' and this name, in any case."""
        return self._one("SELECT name FROM disk WHERE lower(substr(name, -length(?1) - 1)) = '/' || lower(?1)", name)

    def like_stem(self, stem: str) -> str | None:
        """An image file that differs from `stem` in its suffix or in case only."""
        query = "SELECT name FROM disk WHERE lower(substr(name, 1, length(?1) + 1)) = lower(?1) || '.'"
        return self._one(query, stem)

    def rows(self, split: str | None) -> Iterator[tuple[ListedImage, bool]]:
        """All rows of a split (None = of any) by name, then as listed; with whether the file is on the disk."""
        query = """SELECT listed.name, labels, split, source_id, width, height, disk.name IS NOT NULL
                   FROM listed LEFT JOIN disk USING (name) WHERE ?1 IS NULL OR split = ?1
                   ORDER BY listed.name, row"""
        for name, labels, *rest, is_present in self._connection.execute(query, (split,)):
            yield ListedImage(name, None if labels is None else orjson.loads(labels), *rest), bool(is_present)


@contextmanager
def open_index_in_memory() -> Iterator[CorpusIndex]:
    """Empty tables in memory, for names that are there already."""
    connection = sqlite3.connect(":memory:", isolation_level=None)
    try:
        connection.executescript(_TABLES)
        yield CorpusIndex(connection)
    finally:
        connection.close()


@contextmanager
def open_index(out: Path) -> Iterator[CorpusIndex]:
    """Empty tables in a file beside `out`, which is deleted at the end.

    Raises StorageError when the disk refuses, InputError where `out` cannot be a file.
    """
    path = temporary_path(out.with_name(f"{out.name}.sqlite"))
    with storage_errors(out):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    connection = sqlite3.connect(path, isolation_level=None)
    try:
        connection.executescript(_TABLES)
        yield CorpusIndex(connection)
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode & 0xFF not in _DISK_REFUSED:
            raise
        raise StorageError(f"Cannot write {path}: {error}. Make room there and give the same command again.") from error
    finally:
        connection.close()
        path.unlink(missing_ok=True)
