"""Temporary SQLite tables of a scan: sort, join and deduplicate a listing on disk, so that memory stays constant."""

import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from mining.corpus.formats.parsing import parse_image_size
from mining.corpus.listing import ListedImage
from mining.corpus.path_tails import PathTailIndex
from mining.storage.files import storage_errors
from mining.storage.ownership import temporary_path

if TYPE_CHECKING:
    from mining.corpus.formats.coco import CocoImage

# names are primary keys, so that reading in their order needs no sorter, which would spill to another disk
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


class ValuesById:
    """The values of each id of a label file, e.g. the class names of an image id; kept on disk, each value once."""

    def __init__(self, connection: sqlite3.Connection, name: str) -> None:
        self._connection, self._name = connection, name
        connection.execute(f"CREATE TABLE {name} (id TEXT, value TEXT, PRIMARY KEY (id, value)) WITHOUT ROWID")

    def add(self, pairs: Iterable[tuple[str, str]]) -> None:
        """Add pairs of an id and a value."""
        self._connection.executemany(f"INSERT OR IGNORE INTO {self._name} VALUES (?, ?)", pairs)

    def get(self, identity: str) -> list[str]:
        """The values of an id, sorted."""
        rows = self._connection.execute(f"SELECT value FROM {self._name} WHERE id = ? ORDER BY value", (identity,))
        return [value for (value,) in rows]


class CocoImageIndex:
    """The images of a COCO file by their ids, on disk.

    Iterate to get (key, name, number, width, height, is_incomplete) of the images that have a name, in the order of the
    file. `is_incomplete` is set where an annotation of the image could not be used.
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        connection.execute(
            "CREATE TABLE coco_images (place INTEGER PRIMARY KEY, key TEXT UNIQUE, name TEXT, number INTEGER, "
            "width INTEGER, height INTEGER, is_incomplete INTEGER DEFAULT 0)"
        )

    def get(self, key: str) -> str | None:
        """The name of an image; empty for one that was skipped, None for an unknown key."""
        row = self._connection.execute("SELECT name FROM coco_images WHERE key = ?", (key,)).fetchone()
        return row[0] if row else None

    def add(self, image: "CocoImage") -> str | None:
        """Add an image. If its key has a name already, that name is kept and returned."""
        row = (image.key, image.name, image.number, *parse_image_size(image.width, image.height))
        query = "INTO coco_images (key, name, number, width, height) VALUES (?, ?, ?, ?, ?)"
        if self._connection.execute(f"INSERT OR IGNORE {query}", row).rowcount:
            return None
        earlier = self.get(image.key)
        if not earlier:
            self._connection.execute(f"INSERT OR REPLACE {query}", row)
        return earlier or None

    def mark_incomplete(self, key: str) -> None:
        """Record that an annotation of the image could not be used."""
        self._connection.execute("UPDATE coco_images SET is_incomplete = 1 WHERE key = ?", (key,))

    def __iter__(self) -> Iterator[tuple[str, str, int | None, int | None, int | None, bool]]:
        query = (
            "SELECT key, name, number, width, height, is_incomplete FROM coco_images WHERE name <> '' ORDER BY place"
        )
        return iter(self._connection.execute(query))


class CorpusIndex:
    """The tables of one scan: the listed images, and the image files on disk."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def _fetch_value(self, query: str, *values: Any) -> Any:
        row = self._connection.execute(query, values).fetchone()
        return row[0] if row else None

    def create_values_by_id(self, name: str) -> ValuesById:
        """Create an empty table of values by id."""
        return ValuesById(self._connection, name)

    def create_coco_images(self) -> CocoImageIndex:
        """Create an empty table of the images of a COCO file."""
        return CocoImageIndex(self._connection)

    def path_tails(self) -> PathTailIndex:
        """Look names up by the end of their paths."""
        return PathTailIndex(self._connection)

    def add_listed(self, rows: Iterable[ListedImage]) -> int:
        """Add the rows of a listing, and return their number."""
        encoded = (
            (row.name, number, None if row.labels is None else orjson.dumps(row.labels).decode(), *row[2:])
            for number, row in enumerate(rows)
        )
        return self._connection.executemany("INSERT INTO listed VALUES (?, ?, ?, ?, ?, ?, ?, ?)", encoded).rowcount

    def add_disk(self, names: Iterable[str]) -> None:
        """Add names of image files that exist."""
        self._connection.executemany("INSERT OR IGNORE INTO disk VALUES (?)", ((name,) for name in names))

    def disk(self) -> Iterator[str]:
        """The names of the image files, sorted."""
        return (name for (name,) in self._connection.execute("SELECT name FROM disk ORDER BY name"))

    def holds(self, name: str) -> bool:
        """Whether an image file of this name exists."""
        return self._fetch_value("SELECT 1 FROM disk WHERE name = ?", name) is not None

    def not_on_disk(self) -> Iterator[str]:
        """The listed names that no image file has, sorted; a name may be changed by `rename` while iterating."""
        there = "SELECT 1 FROM disk WHERE disk.name = listed.name"
        self._connection.execute("DELETE FROM absent")
        self._connection.execute(
            f"INSERT INTO absent SELECT DISTINCT name FROM listed WHERE NOT EXISTS ({there}) ORDER BY name"
        )
        return (name for (name,) in self._connection.execute("SELECT name FROM absent"))

    def rename(self, name: str, file: str) -> None:
        """Give a listed image the name of its file."""
        self.add_disk([file])
        self._connection.execute("UPDATE listed SET name = ? WHERE name = ?", (file, name))

    def prefer_own_names(self) -> tuple[int, str]:
        """Rename rows that share a name to their `own_name`; returns their number and the first shared name."""
        shared = "name IN (SELECT name FROM listed GROUP BY name HAVING count(*) > 1) AND own_name IS NOT NULL"
        count, first = self._connection.execute(f"SELECT count(*), min(name) FROM listed WHERE {shared}").fetchone()
        if count:
            self._connection.execute(f"UPDATE listed SET name = own_name, own_name = NULL WHERE {shared}")
        return int(count), str(first or "")

    def name_of_two_sizes(self) -> str | None:
        """A name that rows of different sizes share, so that it stands for different images; None if there is none."""
        sized = "SELECT name FROM listed WHERE width IS NOT NULL GROUP BY name"
        return self._fetch_value(f"{sized} HAVING min(width) <> max(width) OR min(height) <> max(height) LIMIT 1")

    def own_names_of_absent(self) -> Iterator[tuple[str, str]]:
        """The `name` and `own_name` of the rows whose name no image file has."""
        there = "SELECT 1 FROM disk WHERE disk.name = listed.name"
        query = f"SELECT name, own_name FROM listed WHERE own_name IS NOT NULL AND NOT EXISTS ({there}) ORDER BY name"
        self._connection.execute(f"INSERT INTO absent_own {query}")
        return iter(self._connection.execute("SELECT name, own_name FROM absent_own"))

    def is_listed(self, name: str) -> bool:
        """Whether a row has this name."""
        return self._fetch_value("SELECT 1 FROM listed WHERE name = ? LIMIT 1", name) is not None

    def names_by_row(self) -> Iterator[tuple[int, str, bool]]:
        """Row number, name, and whether the image file exists; in the order of the listing."""
        query = "SELECT row, listed.name, disk.name IS NOT NULL FROM listed LEFT JOIN disk USING (name) ORDER BY row"
        for row, name, is_present in self._connection.execute(query):
            yield row, name, bool(is_present)

    def first_listed(self, split: str | None) -> str:
        """The listed name that sorts first, of one split or of all (None)."""
        return str(
            self._fetch_value("SELECT name FROM listed WHERE ?1 IS NULL OR split = ?1 ORDER BY name LIMIT 1", split)
        )

    def any_present(self, split: str | None) -> bool:
        """Whether any listed image of a split (None = of any split) has a file."""
        query = "SELECT 1 FROM listed JOIN disk USING (name) WHERE ?1 IS NULL OR split = ?1 LIMIT 1"
        return self._fetch_value(query, split) is not None

    def listed_and_present(self, split: str | None) -> tuple[int, int]:
        """Number of listed images of a split (None = of any split), and of those that have a file."""
        query = """SELECT count(DISTINCT listed.name), count(DISTINCT disk.name)
                   FROM listed LEFT JOIN disk USING (name) WHERE ?1 IS NULL OR split = ?1"""
        listed, present = self._connection.execute(query, (split,)).fetchone()
        return int(listed), int(present)

    def sample_listed(self, split: str | None, count: int) -> list[str]:
        """At most `count` listed names of a split (None = of any split), evenly spaced in sorted order."""
        listed, _ = self.listed_and_present(split)
        step = max(1, listed / count)
        query = "SELECT DISTINCT name FROM listed WHERE ?1 IS NULL OR split = ?1 ORDER BY name"
        wanted = {int(number * step) for number in range(min(count, listed))}
        rows = self._connection.execute(query, (split,))
        return [name for number, (name,) in enumerate(rows) if number in wanted]

    def count_on_disk(self, names: Iterable[str]) -> int:
        """How many of the names have an image file."""
        return sum(self.holds(name) for name in names)

    def unlisted(self) -> int:
        """Number of image files that are not listed."""
        there = "SELECT 1 FROM listed WHERE listed.name = disk.name"
        return int(self._fetch_value(f"SELECT count(*) FROM disk WHERE NOT EXISTS ({there})"))

    def splits(self) -> list[str]:
        """The names of the splits in the listing, sorted."""
        rows = self._connection.execute("SELECT DISTINCT split FROM listed WHERE split IS NOT NULL")
        return sorted(split for (split,) in rows)

    def is_empty(self) -> bool:
        """Whether the listing has no rows."""
        return self._fetch_value("SELECT 1 FROM listed LIMIT 1") is None

    def has_ids(self) -> bool:
        """Whether every row has a `source_id`."""
        return self._fetch_value("SELECT 1 FROM listed WHERE source_id IS NULL LIMIT 1") is None

    def find_by_end(self, name: str) -> str | None:
        """An image file in a folder whose path ends in this name, ignoring letter case."""
        return self._fetch_value(
            "SELECT name FROM disk WHERE lower(substr(name, -length(?1) - 1)) = '/' || lower(?1)", name
        )

    def find_by_stem(self, stem: str) -> str | None:
        """An image file whose name without the suffix is `stem`, ignoring letter case."""
        query = "SELECT name FROM disk WHERE lower(substr(name, 1, length(?1) + 1)) = lower(?1) || '.'"
        return self._fetch_value(query, stem)

    def rows(self, split: str | None) -> Iterator[tuple[ListedImage, bool]]:
        """The rows of a split (None = of any split), sorted by name, and whether the file of each exists."""
        query = """SELECT listed.name, labels, split, source_id, width, height, disk.name IS NOT NULL
                   FROM listed LEFT JOIN disk USING (name) WHERE ?1 IS NULL OR split = ?1
                   ORDER BY listed.name, row"""
        for name, labels, *rest, is_present in self._connection.execute(query, (split,)):
            yield ListedImage(name, None if labels is None else orjson.loads(labels), *rest), bool(is_present)


@contextmanager
def open_index_in_memory() -> Iterator[CorpusIndex]:
    """Open empty tables in memory, for names that are in memory already."""
    connection = sqlite3.connect(":memory:", isolation_level=None)
    try:
        connection.executescript(_TABLES)
        yield CorpusIndex(connection)
    finally:
        connection.close()


@contextmanager
def open_index(out: Path) -> Iterator[CorpusIndex]:
    """Open empty tables in a temporary file beside `out`, which is deleted at the end.

    Raises:
        StorageError: The disk is full, read-only or not writable.
        InputError: No file can exist at `out`.
    """
    path = temporary_path(out.with_name(f"{out.name}.sqlite"))
    with storage_errors(out):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    connection = sqlite3.connect(path, isolation_level=None)
    try:
        with storage_errors(path):
            connection.executescript(_TABLES)
            yield CorpusIndex(connection)
    finally:
        connection.close()
        path.unlink(missing_ok=True)
