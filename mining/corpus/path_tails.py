"""Look names up by the tails of their paths: which files a listed name may mean, and which other names mean them too.

The tails of a/b/c.jpg are a/b/c.jpg, b/c.jpg and c.jpg.
"""

import sqlite3
from collections.abc import Iterator

from mining.corpus.names import file_key, normalise_name, path_tails, strip_image_suffix

_TABLES = """
CREATE TABLE IF NOT EXISTS disk_ends (folded TEXT, end TEXT, is_whole INTEGER, name TEXT,
                                      PRIMARY KEY (folded, end, is_whole, name)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS listed_ends (end TEXT, is_whole INTEGER, name TEXT,
                                        PRIMARY KEY (end, is_whole, name)) WITHOUT ROWID;
"""


class PathTailIndex:
    """Image files and listed names by the tails of their paths (see `file_key`), with and without the suffix.

    Built from the tables `disk` and `listed` at the first query, because most listings need none.

    Args:
        connection: The database that holds both tables.
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._is_built = False

    def files(self, end: str) -> list[str]:
        """Up to two image files whose path is or ends in `end`, whole paths first."""
        self._build()
        query = "SELECT name FROM disk_ends WHERE folded = ? AND end = ? ORDER BY is_whole DESC, name LIMIT 2"
        return self._names(query, end.casefold(), end)

    def whole_files(self, key: str) -> list[str]:
        """Up to two image files whose whole path is `key`."""
        self._build()
        query = "SELECT name FROM disk_ends WHERE folded = ? AND end = ? AND is_whole = 1 ORDER BY name LIMIT 2"
        return self._names(query, key.casefold(), key)

    def file_in_other_case(self, end: str) -> str | None:
        """An image file whose path is or ends in `end`, ignoring letter case."""
        self._build()
        query = "SELECT name FROM disk_ends WHERE folded = ? ORDER BY is_whole DESC, name LIMIT 1"
        return next(iter(self._names(query, end.casefold())), None)

    def is_meant_by_others(self, file: str, name: str) -> bool:
        """Whether a listed name other than `name` may mean this image file too."""
        self._build()
        key = file_key(file)
        for whole in {key, strip_image_suffix(key)}:
            for place, end in enumerate(path_tails(whole)):
                # a listed name longer than the file's path may end in it; a shorter one must be a tail of it as a whole
                condition = "" if place == 0 else "AND is_whole = 1"
                query = f"SELECT name FROM listed_ends WHERE end = ? {condition} AND name <> ? LIMIT 3"
                others = self._names(query, end, name)
                # one name has at most a few Unicode spellings, and all of them may be listed
                if any(normalise_name(other) != normalise_name(name) for other in others):
                    return True
        return False

    def _names(self, query: str, *values: str) -> list[str]:
        return [name for (name,) in self._connection.execute(query, values)]

    def _build(self) -> None:
        if self._is_built:
            return
        self._is_built = True
        for statement in _TABLES.split(";"):
            self._connection.execute(statement)
        self._connection.executemany(
            "INSERT OR IGNORE INTO disk_ends VALUES (?, ?, ?, ?)",
            ((end.casefold(), end, whole, name) for end, whole, name in self._tails_of_files()),
        )
        self._connection.executemany("INSERT OR IGNORE INTO listed_ends VALUES (?, ?, ?)", self._tails_of_listed())

    def _tails_of_files(self) -> Iterator[tuple[str, bool, str]]:
        for (name,) in self._connection.execute("SELECT name FROM disk"):
            key = file_key(name)
            # a listed name without a suffix may mean a file with one, but not the reverse
            for whole in {key, strip_image_suffix(key)}:
                yield from ((end, place == 0, name) for place, end in enumerate(path_tails(whole)))

    def _tails_of_listed(self) -> Iterator[tuple[str, bool, str]]:
        own_names = "SELECT own_name FROM listed WHERE own_name IS NOT NULL"
        for (name,) in self._connection.execute(f"SELECT name FROM listed UNION {own_names}"):
            yield from ((end, place == 0, name) for place, end in enumerate(path_tails(file_key(name))))
