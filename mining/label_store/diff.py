"""What is held against what is listed: which images are new, changed, renamed or gone, on disk whatever their number.

An image is told by the hash of its file: its name may change. Whatever holds the boxes of a hash and labels, the
store's last version or a run that nobody published, is a source of them, so that no image is mined twice.
"""

import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from mining.storage.files import storage_errors

Stale = Callable[[str, str, Sequence[str] | None], str | None]
_TABLES = """
PRAGMA journal_mode = OFF;
PRAGMA synchronous = OFF;
PRAGMA cache_size = -48000;
CREATE TABLE held (name TEXT PRIMARY KEY, image_id INTEGER, hash TEXT, labels TEXT, split TEXT, model TEXT,
                   settings TEXT, gone INTEGER DEFAULT 1) WITHOUT ROWID;
CREATE TABLE listed (name TEXT PRIMARY KEY, hash TEXT, labels TEXT, split TEXT) WITHOUT ROWID;
CREATE TABLE ready (hash TEXT, labels TEXT, run INTEGER, image_id INTEGER, PRIMARY KEY (hash, labels)) WITHOUT ROWID;
CREATE TABLE plan (name TEXT PRIMARY KEY, image_id INTEGER, hash TEXT, labels TEXT, split TEXT, reason TEXT,
                   run INTEGER, source INTEGER, keeps_ids INTEGER) WITHOUT ROWID;
"""
MISSING = "missing or unreadable"
_STORE = -1  # the run that stands for the last version itself
_UNKNOWN = "?"  # labels of an image of which none are known: SQL's NULL is equal to nothing


class PreviousImage(NamedTuple):
    """An image of the last version. labels: None = not known."""

    name: str
    image_id: int
    content_hash: str | None
    labels: list[str] | None
    split: str | None
    model: str
    settings: str


class Entry(NamedTuple):
    """An image whose rows are written anew.

    image_id: in the store, None for a new image. source: the image's id in its run or, where `run` is None, in the
    last version. keeps_ids: its boxes are the same and keep their annotation ids.
    """

    name: str
    image_id: int | None
    content_hash: str | None
    labels: list[str] | None
    split: str | None
    run: int | None
    source: int
    keeps_ids: bool


@dataclass
class Tally:
    """Images by what becomes of them.

    kept: nothing is to be done. reasons: why the others are mined or relabelled. moved: renamed or listed under
    another split. copied: same file as another image. ready: mined earlier and not published yet. to_mine: still.
    retired: gone. absent: known and listed, but the file is missing or cannot be read any more.
    """

    listed: int = 0
    kept: int = 0
    moved: int = 0
    copied: int = 0
    ready: int = 0
    to_mine: int = 0
    retired: int = 0
    absent: int = 0
    reasons: dict[str, int] = field(default_factory=dict)


class SnapshotDiff:
    """The tables of one comparison."""

    def __init__(self, connection: sqlite3.Connection, stale: Stale) -> None:
        self._db = connection
        self._stale = stale
        self.tally = Tally()
        self._holds = False

    def add_previous(self, images: Iterable[PreviousImage]) -> None:
        """Take in the images of the last version."""
        rows = ((*one[:3], _text(one.labels), *one[4:]) for one in images)
        self._db.executemany("INSERT INTO held VALUES (?, ?, ?, ?, ?, ?, ?, 1)", rows)

    def add_current(self, images: Iterable[tuple[str, str | None, Sequence[str] | None, str | None]]) -> None:
        """Take in the images that are there: name, hash, labels, split."""
        rows = ((name, digest, _text(labels), split) for name, digest, labels, split in images)
        self.tally.listed += self._db.executemany("INSERT INTO listed VALUES (?, ?, ?, ?)", rows).rowcount

    def add_pending_run(self, run: int, images: Iterable[tuple[str, Sequence[str] | None, int]]) -> None:
        """Take in what a run has: hash, labels and its image's id. The first one of several counts."""
        rows = ((digest, _text(labels), run, image_id) for digest, labels, image_id in images)
        self._db.executemany("INSERT OR IGNORE INTO ready VALUES (?, ?, ?, ?)", rows)

    def compare(self) -> Tally:
        """Decide what becomes of each image; once, when all is taken in."""
        self._db.execute("UPDATE held SET gone = 0 WHERE EXISTS (SELECT 1 FROM listed WHERE listed.name = held.name)")
        self._db.execute("CREATE INDEX held_by_hash ON held (hash, labels)")
        (self._holds,) = self._db.execute("SELECT EXISTS (SELECT 1 FROM held)").fetchone()
        listed = self._db.execute(
            f"""SELECT listed.*, ready.run, ready.image_id, held.image_id, held.hash, held.labels, held.split,
                       held.model, held.settings
                FROM listed LEFT JOIN held USING (name)
                LEFT JOIN ready ON ready.hash = coalesce(listed.hash, '{_UNKNOWN}' || listed.name)
                               AND ready.labels = listed.labels
                ORDER BY listed.name"""
        )
        entries = filter(None, (self._decided(row[:4], row[4:6], row[6:]) for row in listed))
        self._db.executemany("INSERT INTO plan VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", entries)
        (self.tally.retired,) = self._db.execute("SELECT count(*) FROM held WHERE gone = 1").fetchone()
        return self.tally

    def _decided(
        self, listed: tuple[Any, ...], ready: tuple[Any, ...], held: tuple[Any, ...]
    ) -> tuple[Any, ...] | None:
        """The image's row of the plan, None where nothing is to be done.

        listed: name, hash, labels, split. ready: run and image. held: image, hash, labels, split, model, settings.
        """
        _, digest, labels, split = listed
        is_renamed = held[0] is None and self._holds and digest is not None
        if is_renamed:
            held = self._gone(digest) or held
        reason = self._reason(digest, labels, held)
        if reason is None:
            if held[3] == split and not (is_renamed and held[0] is not None):
                self.tally.kept += 1
                return None
            self.tally.moved += 1
            return (listed[0], held[0], *listed[1:], "moved", _STORE, held[0], True)
        run, source = ready if ready[0] is not None else self._same_content(digest, labels)
        self.tally.absent += reason == MISSING
        kind = "to_mine" if run is None else "copied" if run == _STORE else "ready"
        setattr(self.tally, kind, getattr(self.tally, kind) + 1)
        self.tally.reasons[reason] = self.tally.reasons.get(reason, 0) + 1
        return (listed[0], held[0], *listed[1:], reason, run, source, False)

    def _reason(self, digest: str | None, labels: str, held: tuple[Any, ...]) -> str | None:
        """Why the image is to be labelled anew, None where it is not."""
        image_id, its_hash, its_labels, _, model, settings = held
        if image_id is None:
            return "new"
        if its_hash != digest:
            return "another content" if digest is not None else MISSING
        if its_labels != labels:
            return "other labels"
        return self._stale(model, settings, _list(labels))

    def _gone(self, digest: str) -> tuple[Any, ...] | None:
        """An image of the last version with this content whose name is not listed; it is this one then."""
        row = self._db.execute("SELECT * FROM held WHERE hash = ? AND gone = 1 LIMIT 1", (digest,)).fetchone()
        if row is None:
            return None
        self._db.execute("UPDATE held SET gone = 0 WHERE name = ?", (row[0],))
        return tuple(row[1:7])

    def _same_content(self, digest: str | None, labels: str) -> tuple[int | None, int | None]:
        """Where the last version has boxes of this content and labels."""
        if digest is None or not self._holds:
            return None, None
        same = self._db.execute(
            "SELECT image_id, model, settings FROM held WHERE hash = ? AND labels = ?", (digest, labels)
        )
        for image_id, model, settings in same:
            if self._stale(model, settings, _list(labels)) is None:
                return _STORE, image_id
        return None, None

    def is_another_corpus(self) -> bool:
        """Whether the last version has images, and none of them is listed under any name."""
        same = "SELECT EXISTS (SELECT 1 FROM listed JOIN held USING (hash))"
        return self._holds and not self._db.execute(same).fetchone()[0]

    def to_mine(self) -> Iterator[str]:
        """The names to mine, sorted; of several files with the same content and labels one, which stands for all."""
        query = "SELECT min(name) FROM plan WHERE run IS NULL GROUP BY coalesce(hash, name), labels ORDER BY 1"
        return (name for (name,) in self._db.execute(query))

    def entries(self, run: int | None, first: int, last: int) -> list[Entry]:
        """What is written anew from images `first` to `last` of a run, or of the last version (None)."""
        query = """SELECT name, image_id, hash, labels, split, run, source, keeps_ids FROM plan
                   WHERE run = ? AND source BETWEEN ? AND ? ORDER BY source, name"""
        found = self._db.execute(query, (_STORE if run is None else run, first, last))
        return [
            Entry(name, image_id, digest, _list(labels), split, run, source, bool(keeps_ids))
            for name, image_id, digest, labels, split, _, source, keeps_ids in found
        ]

    def uses(self, run: int) -> bool:
        """Whether anything is written anew from the run."""
        return self._db.execute("SELECT 1 FROM plan WHERE run = ? LIMIT 1", (run,)).fetchone() is not None

    def number(self, first: int) -> int:
        """Give new images their ids, from `first` on in the order of their names; gives the next free one."""
        new = self._db.execute("SELECT name FROM plan WHERE image_id IS NULL AND run IS NOT NULL ORDER BY name")
        count = 0
        for count, (name,) in enumerate(new.fetchall(), start=1):
            self._db.execute("UPDATE plan SET image_id = ? WHERE name = ?", (first + count - 1, name))
        self._db.execute("CREATE INDEX plan_by_source ON plan (run, source)")
        return first + count

    def dropped(self, first: int, last: int) -> set[int]:
        """Which of the last version's images `first` to `last` lose their rows, to new ones or for good."""
        query = """SELECT image_id FROM plan WHERE image_id BETWEEN ?1 AND ?2
                   UNION SELECT image_id FROM held WHERE gone = 1 AND image_id BETWEEN ?1 AND ?2"""
        return {image_id for (image_id,) in self._db.execute(query, (first, last))}

    def buckets(self, size: int) -> list[int]:
        """The buckets of `size` images in which anything changes; ids are given."""
        query = """SELECT DISTINCT image_id / ?1 FROM plan WHERE image_id IS NOT NULL
                   UNION SELECT DISTINCT image_id / ?1 FROM held WHERE gone = 1"""
        return sorted(bucket for (bucket,) in self._db.execute(query, (size,)))


@contextmanager
def ledger(path: Path, stale: Stale) -> Iterator[SnapshotDiff]:
    """Empty tables in the file `path`, which is deleted at the end. stale: see `freshness.staleness`."""
    with storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
    try:
        # one thread at a time, but not always the same: rows are asked for by those that write them
        with closing(sqlite3.connect(path, isolation_level=None, check_same_thread=False)) as connection:
            connection.executescript(_TABLES)
            connection.execute("BEGIN")
            yield SnapshotDiff(connection, stale)
    finally:
        path.unlink(missing_ok=True)


def unread(name: str) -> str:
    """What stands for the hash of a file that could not be read."""
    return f"{_UNKNOWN}{name}"


def _text(labels: Sequence[str] | None) -> str:
    return _UNKNOWN if labels is None else orjson.dumps(sorted(labels)).decode()


def _list(labels: str) -> list[str] | None:
    return None if labels == _UNKNOWN else orjson.loads(labels)
