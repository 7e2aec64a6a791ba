"""Verdicts of people on boxes and images: an append-only record in verdicts.sqlite of a run directory.

The file has the plans that were drawn, and one row per verdict. A verdict is never changed or deleted; of several by
one reviewer on the same box or image the last one counts.
"""

import json
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import astuple, fields, replace
from pathlib import Path

from mining.errors import InputError
from mining.quality.judgements import WITHDRAWN, Drawn, DrawnImage, ImageJudgement, Judgement, MissedObject, Why
from mining.storage.files import storage_errors

VERDICTS_FILE = "verdicts.sqlite"
_VERSION = 2
_TABLES = """
CREATE TABLE IF NOT EXISTS plans (plan TEXT PRIMARY KEY, made TEXT NOT NULL, precision_within REAL);
CREATE TABLE IF NOT EXISTS drawn (plan TEXT NOT NULL, annotation_id INTEGER NOT NULL, why TEXT NOT NULL,
                                  inclusion_probability REAL, PRIMARY KEY (plan, annotation_id)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS verdicts (
    number INTEGER PRIMARY KEY, plan TEXT NOT NULL, why TEXT NOT NULL, annotation_id INTEGER NOT NULL,
    file_name TEXT NOT NULL, content_hash TEXT, category TEXT NOT NULL, x REAL NOT NULL, y REAL NOT NULL,
    w REAL NOT NULL, h REAL NOT NULL, verdict TEXT NOT NULL, new_x REAL, new_y REAL, new_w REAL, new_h REAL,
    new_category TEXT, reviewer TEXT NOT NULL, time TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS by_box ON verdicts (annotation_id, reviewer);
CREATE TABLE IF NOT EXISTS drawn_images (plan TEXT NOT NULL, file_name TEXT NOT NULL,
                                         inclusion_probability REAL NOT NULL, PRIMARY KEY (plan, file_name));
CREATE TABLE IF NOT EXISTS images (number INTEGER PRIMARY KEY, plan TEXT NOT NULL, file_name TEXT NOT NULL,
                                   content_hash TEXT, missed TEXT NOT NULL, reviewer TEXT NOT NULL, time TEXT NOT NULL);
"""
# a file of version 1 has no corrected classes and no images
_FROM_VERSION_1 = "ALTER TABLE verdicts ADD COLUMN new_category TEXT;"
_COLUMNS = ", ".join(field.name for field in fields(Judgement))
_MARKS = ", ".join("?" * len(fields(Judgement)))
_IMAGE_COLUMNS = "plan, file_name, content_hash, missed, reviewer, time"


class VerdictStore:
    """The verdicts of a run; open it with `open_verdicts`."""

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        self.path = path
        self._connection = connection

    def add_plan(
        self, plan: str, made: str, drawn: Sequence[Drawn], precision_within: float | None,
        images: Sequence[DrawnImage] = (),
    ) -> None:  # fmt: skip
        """Record a plan and what it asks for, in one transaction."""
        with storage_errors(self.path), self._connection:
            self._connection.execute("INSERT INTO plans VALUES (?, ?, ?)", (plan, made, precision_within))
            self._connection.executemany(
                "INSERT INTO drawn VALUES (?, ?, ?, ?)", ((plan, *astuple(one)) for one in drawn)
            )
            self._connection.executemany(
                "INSERT INTO drawn_images VALUES (?, ?, ?)", ((plan, *astuple(one)) for one in images)
            )

    def drawn_by(self, plan: str) -> dict[int, Drawn] | None:
        """Return the boxes that a plan asks for, by id; None if the run has no such plan."""
        if self._connection.execute("SELECT 1 FROM plans WHERE plan = ?", (plan,)).fetchone() is None:
            return None
        rows = self._connection.execute(
            "SELECT annotation_id, why, inclusion_probability FROM drawn WHERE plan = ?", (plan,)
        )
        return {row[0]: Drawn(*row) for row in rows}

    def images_of(self, plan: str) -> set[str]:
        """Return the file names of the images that a plan asks to look at whole."""
        rows = self._connection.execute("SELECT file_name FROM drawn_images WHERE plan = ?", (plan,))
        return {row[0] for row in rows}

    def drawn_images(self) -> list[str]:
        """Return the images that the plans ask to look at whole, by name."""
        return [
            row[0] for row in self._connection.execute("SELECT DISTINCT file_name FROM drawn_images ORDER BY file_name")
        ]

    def plans(self) -> list[str]:
        """Return the names of the run's plans, in the order in which they were drawn."""
        return [row[0] for row in self._connection.execute("SELECT plan FROM plans ORDER BY rowid")]

    def drawn_at_random(self) -> list[int]:
        """Return the boxes that the plans have drawn at random, ascending."""
        return self._ids("random")

    def shown_as_suspicious(self) -> list[int]:
        """Return the boxes that the plans show because they are doubtful, ascending."""
        return self._ids("suspicious")

    def pending(self) -> tuple[int, int]:
        """Return how many boxes, and how many images, plans ask for that nobody has judged for them."""
        boxes = (
            "SELECT plan, annotation_id FROM drawn EXCEPT SELECT plan, annotation_id FROM verdicts WHERE number IN "
            f"(SELECT max(number) FROM verdicts GROUP BY annotation_id, reviewer, plan) AND verdict != '{WITHDRAWN}'"
        )
        images = (
            "SELECT plan, file_name FROM drawn_images EXCEPT SELECT plan, file_name FROM images WHERE number IN "
            f"(SELECT max(number) FROM images GROUP BY file_name, reviewer, plan) AND missed != '{WITHDRAWN}'"
        )
        return (
            self._connection.execute(f"SELECT count(DISTINCT annotation_id) FROM ({boxes})").fetchone()[0],
            self._connection.execute(f"SELECT count(DISTINCT file_name) FROM ({images})").fetchone()[0],
        )

    def precision_within(self) -> float | None:
        """Return the half width that the last plan with one asks for."""
        row = self._connection.execute(
            "SELECT precision_within FROM plans WHERE precision_within IS NOT NULL ORDER BY rowid DESC LIMIT 1"
        ).fetchone()
        return None if row is None else float(row[0])

    def record(self, judgements: Iterable[Judgement], images: Iterable[ImageJudgement] = ()) -> tuple[int, int]:
        """Append verdicts in one transaction; one that repeats the reviewer's last for the same plan is left out.

        Returns:
            How many on boxes, and how many on images, were appended.
        """
        latest = {one.place: one for one in self._latest("annotation_id, reviewer, plan")}
        new = [one for one in judgements if (last := latest.get(one.place)) is None or not one.agrees_with(last)]
        missed = {(one.file_name, one.reviewer): one.missed for one in self.image_judgements()}
        new_images = [one for one in images if missed.get((one.file_name, one.reviewer)) != one.missed]
        with storage_errors(self.path), self._connection:
            self._connection.executemany(f"INSERT INTO verdicts ({_COLUMNS}) VALUES ({_MARKS})", map(astuple, new))
            self._connection.executemany(
                f"INSERT INTO images ({_IMAGE_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?)", map(_image_row, new_images)
            )
        return len(new), len(new_images)

    def withdraw_box(self, annotation_id: int, reviewer: str, time: str) -> None:
        """Take back a reviewer's last verdict on a box, as a record of its own; nothing if there is none."""
        last = [one for one in self.judgements() if (one.annotation_id, one.reviewer) == (annotation_id, reviewer)]
        with storage_errors(self.path), self._connection:
            rows = [astuple(replace(one, verdict=WITHDRAWN, time=time)) for one in last]
            self._connection.executemany(f"INSERT INTO verdicts ({_COLUMNS}) VALUES ({_MARKS})", rows)

    def withdraw_image(self, file_name: str, reviewer: str, time: str) -> None:
        """Do the same for an image that was looked at whole."""
        last = [one for one in self.image_judgements() if (one.file_name, one.reviewer) == (file_name, reviewer)]
        with storage_errors(self.path), self._connection:
            rows = [(one.plan, one.file_name, one.content_hash, WITHDRAWN, one.reviewer, time) for one in last]
            self._connection.executemany(f"INSERT INTO images ({_IMAGE_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?)", rows)

    def judgements(self) -> list[Judgement]:
        """Return the last verdict of each reviewer on each box, by box."""
        return self._latest("annotation_id, reviewer")

    def image_judgements(self) -> list[ImageJudgement]:
        """Return the last word of each reviewer on each image that was looked at whole, by image."""
        rows = self._connection.execute(
            f"SELECT {_IMAGE_COLUMNS} FROM images WHERE number IN (SELECT max(number) FROM images GROUP BY file_name, "
            "reviewer) ORDER BY file_name, reviewer"
        )
        return [
            ImageJudgement(plan, file_name, content_hash, _missed_of(missed), reviewer, time)
            for plan, file_name, content_hash, missed, reviewer, time in rows
            if missed != WITHDRAWN
        ]

    def judged_at_random(self) -> set[int]:
        """Return the boxes with a verdict that a random draw asked for.

        A doubtful box that a later plan draws at random is one of them only after it was judged for that plan: until
        then its verdict is known because it is doubtful.
        """
        latest = self._latest("annotation_id, reviewer, plan")
        return {one.annotation_id for one in latest if one.why == "random"}

    def _latest(self, group: str) -> list[Judgement]:
        rows = self._connection.execute(
            f"SELECT {_COLUMNS} FROM verdicts WHERE number IN (SELECT max(number) FROM verdicts GROUP BY {group}) "
            "ORDER BY annotation_id, reviewer"
        )
        return [one for row in rows if (one := Judgement(*row)).verdict != WITHDRAWN]

    def _ids(self, why: Why) -> list[int]:
        rows = self._connection.execute(
            "SELECT DISTINCT annotation_id FROM drawn WHERE why = ? ORDER BY annotation_id", (why,)
        )
        return [row[0] for row in rows]


@contextmanager
def open_verdicts(run_dir: Path, *, to_write: bool = True) -> Iterator[VerdictStore]:
    """Open the verdicts of a run directory.

    Args:
        run_dir: The run directory.
        to_write: Make the file if there is none, and bring one of an earlier version up to date; otherwise a run
            without one has no verdicts, and the file is not changed.

    Raises:
        InputError: The file is damaged, or another version of boxmine wrote it.
        StorageError: The disk refused it.
    """
    path = run_dir / VERDICTS_FILE
    place = path if to_write or path.exists() else ":memory:"
    with (
        storage_errors(path),
        closing(sqlite3.connect(place, timeout=60)) as connection,
        closing(sqlite3.connect(":memory:")) as copy,
    ):
        current = connection
        try:
            connection.execute("PRAGMA synchronous = FULL")
            version = _version_of(connection)
            if version > _VERSION:
                raise InputError(f"{path} is of a later version of boxmine; use that version.")
            if version < _VERSION and not to_write:  # also a file that a full disk left empty
                connection.backup(copy)
                current = copy
            if version < _VERSION:
                _bring_up_to_date(current)
        except sqlite3.DatabaseError as error:
            if isinstance(error, sqlite3.OperationalError):
                raise
            raise InputError(f"{path} is damaged ({error}); restore it from a copy, or delete it.") from None
        yield VerdictStore(path, current)


def _version_of(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def _bring_up_to_date(connection: sqlite3.Connection) -> None:
    if not _version_of(connection):
        connection.execute("PRAGMA journal_mode = WAL")
    with connection:
        connection.execute("BEGIN IMMEDIATE")
        version = _version_of(connection)  # another process may have been first
        statements = [_FROM_VERSION_1] if version == 1 else []
        for statement in (*statements, *_TABLES.split(";")):
            connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {_VERSION}")


def _image_row(judgement: ImageJudgement) -> tuple[str | None, ...]:
    missed = json.dumps([[one.category, one.xywh] for one in judgement.missed])
    return (
        judgement.plan, judgement.file_name, judgement.content_hash, missed, judgement.reviewer, judgement.time,
    )  # fmt: skip


def _missed_of(text: str) -> tuple[MissedObject, ...]:
    return tuple(MissedObject(category, None if xywh is None else tuple(xywh)) for category, xywh in json.loads(text))
