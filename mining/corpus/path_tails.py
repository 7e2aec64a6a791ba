"""Look names up by the end of their path, on disk: which files may be meant by a listed name, and by which others."""

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
    """Image files and listed names by the ends of their paths (see `file_key`), with and without the suffix.

    Made of the tables `disk` and `listed` when it is first asked, because most listings never ask.
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._is_made = False

    def files(self, end: str) -> list[str]:
        """Two of the image files whose path is `end` or ends in it, whole paths first."""
        self._make()
        query = "SELECT name FROM disk_ends WHERE folded = ? AND end = ? ORDER BY is_whole DESC, name LIMIT 2"
        return self._names(query, end.casefold(), end)

    def whole_files(self, key: str) -> list[str]:
        """Two of the image files whose whole path this is."""
        self._make()
        query = "SELECT name FROM disk_ends WHERE folded = ? AND end = ? AND is_whole = 1 ORDER BY name LIMIT 2"
        return self._names(query, key.casefold(), key)

    def file_in_other_case(self, end: str) -> str | None:
        """An image file whose path ends in this when letter case is ignored."""
        self._make()
        query = "SELECT name FROM disk_ends WHERE folded = ? ORDER BY is_whole DESC, name LIMIT 1"
        return next(iter(self._names(query, end.casefold())), None)

    def is_meant_by_others(self, file: str, name: str) -> bool:
        """Whether a listed name besides `name` may mean this image file too."""
        self._make()
        key = file_key(file)
        for whole in {key, strip_image_suffix(key)}:
            for place, end in enumerate(path_tails(whole)):
                # of names that are longer than the file's any will do; of shorter ones the whole
                condition = "" if place == 0 else "AND is_whole = 1"
                query = f"SELECT name FROM listed_ends WHERE end = ? {condition} AND name <> ? LIMIT 3"
                others = self._names(query, end, name)
                # Unicode has at most a few spellings of one name, and they may all be listed
                if any(normalise_name(other) != normalise_name(name) for other in others):
                    return True
        return False

    def _names(self, query: str, *values: str) -> list[str]:
        return [name for (name,) in self._connection.execute(query, values)]

    def _make(self) -> None:
        if self._is_made:
            return
        self._is_made = True
        for statement in _TABLES.split(";"):
            self._connection.execute(statement)
        self._connection.executemany(
            "INSERT OR IGNORE INTO disk_ends VALUES (?, ?, ?, ?)",
            ((end.casefold(), end, whole, name) for end, whole, name in self._ends_of_files()),
        )
        self._connection.executemany("INSERT OR IGNORE INTO listed_ends VALUES (?, ?, ?)", self._ends_of_listed())

    def _ends_of_files(self) -> Iterator[tuple[str, bool, str]]:
        for (name,) in self._connection.execute("SELECT name FROM disk"):
            key = file_key(name)
            # a listed name without a suffix may mean a file with one; not so the other way round
            for whole in {key, strip_image_suffix(key)}:
                yield from ((end, place == 0, name) for place, end in enumerate(path_tails(whole)))

    def _ends_of_listed(self) -> Iterator[tuple[str, bool, str]]:
        own_names = "SELECT own_name FROM listed WHERE own_name IS NOT NULL"
        for (name,) in self._connection.execute(f"SELECT name FROM listed UNION {own_names}"):
            yield from ((end, place == 0, name) for place, end in enumerate(path_tails(file_key(name))))
