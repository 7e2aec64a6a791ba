"""Compare the images that are listed now with the last version: which are new, changed, renamed or gone.

An image is identified by the hash of its file, so that its name may change. Boxes may come from any source that has the
same hash and labels, the store's last version or a run that was not published yet, so that no image is mined twice.

The comparison is a few SQL statements over tables in a temporary SQLite file, so that memory does not grow with the
corpus. For a million images they take 7 s, where deciding image by image in Python took 17 to 23 s; adding the rows
takes 10 to 24 s (2 busy cores, medians of three). DuckDB takes half of the total, because it reads Arrow tables, but
460 MB instead of 220 MB, and publishing asks for the `entries` of each shard, for each of which it would scan the whole
plan. So it is not used.
"""

import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import orjson

from mining.storage.files import storage_errors

StalenessFn = Callable[[str, str, Sequence[str] | None], str | None]
MISSING = "missing or unreadable"
CORRECTED = "corrected"
_KEEPS_IDS = ("moved", CORRECTED)
_STORE = -1  # number of the run that stands for the last version itself
_UNKNOWN = "?"  # stands for unknown labels, because NULL equals nothing in SQL
_TABLES = """
PRAGMA journal_mode = OFF;
PRAGMA synchronous = OFF;
PRAGMA cache_size = -48000;
CREATE TABLE previous (name TEXT PRIMARY KEY, image_id INTEGER, hash TEXT, labels TEXT, split TEXT, model TEXT,
                       settings TEXT) WITHOUT ROWID;
CREATE TABLE current (name TEXT PRIMARY KEY, hash TEXT, labels TEXT, split TEXT) WITHOUT ROWID;
CREATE TABLE pending (hash TEXT, labels TEXT, run INTEGER, image_id INTEGER, PRIMARY KEY (hash, labels)) WITHOUT ROWID;
CREATE TABLE plan (name TEXT PRIMARY KEY, image_id INTEGER, hash TEXT, labels TEXT, split TEXT, reason TEXT,
                   run INTEGER, source INTEGER) WITHOUT ROWID;
"""
# Of several images with one content, the first new name is paired with the first name that is gone, and so on.
_RENAMES = """
CREATE INDEX previous_by_hash ON previous (hash, labels);
CREATE TABLE gone AS SELECT name, image_id, hash, labels FROM previous WHERE name NOT IN (SELECT name FROM current);
CREATE INDEX gone_by_hash ON gone (hash);
CREATE TABLE renamed (name TEXT PRIMARY KEY, previous_name TEXT) WITHOUT ROWID;
INSERT INTO renamed
WITH old AS (SELECT name, hash, row_number() OVER (PARTITION BY hash ORDER BY labels, name) AS place FROM gone),
     new AS (SELECT name, hash, row_number() OVER (PARTITION BY hash ORDER BY name) AS place FROM current
             WHERE hash IN (SELECT hash FROM gone) AND name NOT IN (SELECT name FROM previous))
SELECT new.name, old.name FROM new JOIN old USING (hash, place);
DELETE FROM gone WHERE name IN (SELECT previous_name FROM renamed);
"""
_PLAN = f"""
INSERT INTO plan
WITH matched AS (
  SELECT current.*, previous.image_id,
         renamed.name IS NOT NULL OR previous.split IS NOT current.split AS is_moved,
         CASE WHEN previous.name IS NULL THEN 'new'
              WHEN current.hash IS NULL AND previous.hash IS NOT NULL THEN '{MISSING}'
              WHEN current.hash IS NOT previous.hash THEN 'another content'
              WHEN current.labels <> previous.labels THEN 'other labels'
              ELSE stale(previous.model, previous.settings, current.labels) END AS reason
  FROM current LEFT JOIN renamed USING (name)
  LEFT JOIN previous ON previous.name = coalesce(renamed.previous_name, current.name))
SELECT name, matched.image_id, matched.hash, matched.labels, split, coalesce(reason, 'moved'),
       CASE WHEN reason IS NULL THEN {_STORE} ELSE pending.run END,
       CASE WHEN reason IS NULL THEN matched.image_id ELSE pending.image_id END
FROM matched LEFT JOIN pending ON pending.hash = coalesce(matched.hash, '{_UNKNOWN}' || name)
                               AND pending.labels = matched.labels
WHERE reason IS NOT NULL OR is_moved
"""
# Several previous images may have the content; the first whose boxes are not stale is copied.
_COPIES = f"""
UPDATE plan SET source = (
  SELECT image_id FROM previous
  WHERE previous.hash = plan.hash AND previous.labels = plan.labels AND stale(model, settings, previous.labels) IS NULL
  ORDER BY name LIMIT 1)
WHERE run IS NULL AND hash IN (SELECT hash FROM previous);
UPDATE plan SET run = {_STORE} WHERE run IS NULL AND source IS NOT NULL;
"""


class PreviousImage(NamedTuple):
    """An image of the last version. labels: None = unknown."""

    name: str
    image_id: int
    content_hash: str | None
    labels: list[str] | None
    split: str | None
    model: str
    settings: str


class Entry(NamedTuple):
    """An image whose rows are written anew.

    Attributes:
        image_id: In the store; None for a new image that has no id yet.
        run: Number of the pending run that the boxes come from, None = the last version.
        source: The image's id in that run or in the last version.
        keeps_ids: Boxes that are unchanged keep their annotation ids.
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
    """Numbers of images by outcome of the comparison.

    Attributes:
        listed: Images that are listed now.
        kept: Unchanged images.
        moved: Images that were renamed, or are listed in another split.
        copied: Copies of images of the last version.
        ready: Images that were mined earlier and are not published yet.
        to_mine: Images that must be mined.
        retired: Images of the last version that are not listed any more.
        absent: Known images that are listed, but whose file is missing or unreadable.
        corrected: Images that are otherwise unchanged, whose boxes people corrected.
        reasons: Images that are mined or relabelled, by reason.
    """

    listed: int = 0
    kept: int = 0
    moved: int = 0
    copied: int = 0
    ready: int = 0
    to_mine: int = 0
    retired: int = 0
    absent: int = 0
    corrected: int = 0
    reasons: dict[str, int] = field(default_factory=dict)


class SnapshotDiff:
    """The comparison of the current listing with the last version and the pending runs."""

    def __init__(self, connection: sqlite3.Connection, stale: StalenessFn) -> None:
        """Use a connection to empty tables; see `open_diff`."""
        self._db = connection
        self.tally = Tally()

        @lru_cache(maxsize=100_000)
        def is_stale(model: str, settings: str, labels: str) -> str | None:
            return stale(model, settings, _labels_of(labels))

        connection.create_function("stale", 3, is_stale, deterministic=True)

    def add_previous(self, images: Iterable[PreviousImage]) -> None:
        """Add the images of the last version."""
        rows = ((*image[:3], _text(image.labels), *image[4:]) for image in images)
        self._db.executemany("INSERT INTO previous VALUES (?, ?, ?, ?, ?, ?, ?)", rows)

    def add_current(self, images: Iterable[tuple[str, str | None, Sequence[str] | None, str | None]]) -> None:
        """Add images that are listed now, as tuples of name, hash, labels and split."""
        rows = ((name, digest, _text(labels), split) for name, digest, labels, split in images)
        self.tally.listed += self._db.executemany("INSERT INTO current VALUES (?, ?, ?, ?)", rows).rowcount

    def add_pending_run(self, run: int, images: Iterable[tuple[str, Sequence[str] | None, int]]) -> None:
        """Add what an unpublished run has mined, as tuples of hash, labels and image id in that run.

        Of several runs with the same hash and labels the first one added counts.
        """
        rows = ((digest, _text(labels), run, image_id) for digest, labels, image_id in images)
        self._db.executemany("INSERT OR IGNORE INTO pending VALUES (?, ?, ?, ?)", rows)

    def compare(self) -> Tally:
        """Plan each image; called once, when everything has been added."""
        for statements in (_RENAMES, _PLAN, _COPIES):
            for statement in filter(str.strip, statements.split(";")):
                self._db.execute(statement)
        tally, count = self.tally, self._count
        changed = count("plan WHERE reason <> 'moved'")
        tally.moved = count("plan") - changed
        tally.kept = tally.listed - tally.moved - changed
        tally.to_mine = count("plan WHERE run IS NULL")
        tally.copied = count(f"plan WHERE run = {_STORE}") - tally.moved
        tally.ready = changed - tally.to_mine - tally.copied
        tally.retired = count("gone")
        reasons = "SELECT reason, count(*) FROM plan WHERE reason <> 'moved' GROUP BY reason ORDER BY min(name)"
        tally.reasons = dict(self._db.execute(reasons).fetchall())
        tally.absent = tally.reasons.get(MISSING, 0)
        return tally

    def _count(self, rows: str) -> int:
        return int(self._db.execute(f"SELECT count(*) FROM {rows}").fetchone()[0])

    def is_another_corpus(self) -> bool:
        """Whether the last version has images and none of them is listed under any name."""
        is_shared = "SELECT EXISTS (SELECT 1 FROM current JOIN previous USING (hash))"
        return self._count("(SELECT 1 FROM previous LIMIT 1)") > 0 and not self._db.execute(is_shared).fetchone()[0]

    def to_mine(self) -> Iterator[str]:
        """Names of the images to mine, sorted; one name for all files that share content and labels."""
        query = "SELECT min(name) FROM plan WHERE run IS NULL GROUP BY coalesce(hash, name), labels ORDER BY 1"
        return (name for (name,) in self._db.execute(query))

    def entries(self, run: int | None, first: int, last: int) -> list[Entry]:
        """Images whose rows come from the images `first` to `last` of a run, or of the last version (None)."""
        query = """SELECT name, image_id, hash, labels, split, run, source, reason FROM plan
                   WHERE run = ? AND source BETWEEN ? AND ? ORDER BY source, name"""
        rows = self._db.execute(query, (_STORE if run is None else run, first, last))
        return [
            Entry(name, image_id, digest, _labels_of(labels), split, run, source, reason in _KEEPS_IDS)
            for name, image_id, digest, labels, split, _, source, reason in rows
        ]

    def uses(self, run: int) -> bool:
        """Whether any image takes its rows from this run."""
        return self._db.execute("SELECT 1 FROM plan WHERE run = ? LIMIT 1", (run,)).fetchone() is not None

    def add_corrected(self, image_ids: Iterable[int]) -> None:
        """Write images of the last version again whose boxes people corrected; all but unchanged ones are anyway."""
        before = self._count("plan")
        self._db.executemany(
            f"""INSERT INTO plan
                SELECT name, image_id, hash, labels, previous.split, '{CORRECTED}', {_STORE}, image_id
                FROM previous WHERE image_id = ? AND name IN (SELECT name FROM current)
                AND name NOT IN (SELECT name FROM plan)""",
            ((image_id,) for image_id in image_ids),
        )
        self.tally.corrected = self._count("plan") - before
        self.tally.kept -= self.tally.corrected

    def images_of(self, run: int) -> list[int]:
        """Ids in this run of the images that any image takes its rows from."""
        query = "SELECT DISTINCT source FROM plan WHERE run = ? ORDER BY source"
        return [image_id for (image_id,) in self._db.execute(query, (run,))]

    def number(self, first: int) -> int:
        """Give new images their ids, from `first` on in the order of their names; return the next free id."""
        self._db.execute(
            """UPDATE plan SET image_id = new.id
               FROM (SELECT name, ? - 1 + row_number() OVER (ORDER BY name) AS id FROM plan
                     WHERE image_id IS NULL AND run IS NOT NULL) AS new
               WHERE plan.name = new.name""",
            (first,),
        )
        count = int(self._db.execute("SELECT changes()").fetchone()[0])
        self._db.execute("CREATE INDEX plan_by_source ON plan (run, source)")
        return first + count

    def dropped(self, first: int, last: int) -> set[int]:
        """Ids from `first` to `last` in the last version that lose their rows, to new rows or for good."""
        query = """SELECT image_id FROM plan WHERE image_id BETWEEN ?1 AND ?2
                   UNION SELECT image_id FROM gone WHERE image_id BETWEEN ?1 AND ?2"""
        return {image_id for (image_id,) in self._db.execute(query, (first, last))}

    def buckets(self, size: int) -> list[int]:
        """Buckets of `size` images in which anything changes; `number` must have been called."""
        query = """SELECT DISTINCT image_id / ?1 FROM plan WHERE image_id IS NOT NULL
                   UNION SELECT DISTINCT image_id / ?1 FROM gone"""
        return sorted(bucket for (bucket,) in self._db.execute(query, (size,)))


@contextmanager
def open_diff(path: Path, stale: StalenessFn) -> Iterator[SnapshotDiff]:
    """Yield a comparison with empty tables in the file `path`, which is deleted at the end.

    Args:
        path: The SQLite file.
        stale: Why an image must be mined again; see `mining.label_store.staleness.staleness`.
    """
    with storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
    try:
        # used by one thread at a time, but not always by the same: the writer of a version pulls rows from its own
        with closing(sqlite3.connect(path, isolation_level=None, check_same_thread=False)) as connection:
            connection.executescript(_TABLES)
            connection.execute("BEGIN")
            yield SnapshotDiff(connection, stale)
    finally:
        path.unlink(missing_ok=True)


def placeholder_hash(name: str) -> str:
    """Return what identifies a file that could not be read, in place of its hash."""
    return f"{_UNKNOWN}{name}"


def _text(labels: Sequence[str] | None) -> str:
    return _UNKNOWN if labels is None else orjson.dumps(sorted(labels)).decode()


def _labels_of(text: str) -> list[str] | None:
    return None if text == _UNKNOWN else orjson.loads(text)
