"""Verdicts of people on boxes: an append-only record in verdicts.sqlite of a run directory.

The file has the plans that were drawn, and one row per verdict. A verdict is never changed or deleted; of several by
one reviewer on the same box the last one counts.
"""

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from typing import Literal, get_args

from mining.errors import InputError
from mining.storage.files import storage_errors

VERDICTS_FILE = "verdicts.sqlite"
Verdict = Literal["correct", "too_large", "too_small", "wrong_place", "wrong_class", "nothing", "unsure"]
VERDICTS: tuple[str, ...] = get_args(Verdict)
Why = Literal["random", "suspicious"]
_VERSION = 1
_TABLES = """
CREATE TABLE IF NOT EXISTS plans (plan TEXT PRIMARY KEY, made TEXT NOT NULL, precision_within REAL);
CREATE TABLE IF NOT EXISTS drawn (plan TEXT NOT NULL, annotation_id INTEGER NOT NULL, why TEXT NOT NULL,
                                  inclusion_probability REAL, PRIMARY KEY (plan, annotation_id)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS verdicts (
    number INTEGER PRIMARY KEY, plan TEXT NOT NULL, why TEXT NOT NULL, annotation_id INTEGER NOT NULL,
    file_name TEXT NOT NULL, content_hash TEXT, category TEXT NOT NULL, x REAL NOT NULL, y REAL NOT NULL,
    w REAL NOT NULL, h REAL NOT NULL, verdict TEXT NOT NULL, new_x REAL, new_y REAL, new_w REAL, new_h REAL,
    reviewer TEXT NOT NULL, time TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS by_box ON verdicts (annotation_id, reviewer);
"""


@dataclass(frozen=True)
class Drawn:
    """A box that a plan asks for.

    Attributes:
        annotation_id: The box.
        why: random, or suspicious: such a verdict says nothing about the other boxes.
        inclusion_probability: Of a random draw, over all plans of the run so far; None for others.
    """

    annotation_id: int
    why: Why
    inclusion_probability: float | None = None


@dataclass(frozen=True)
class Judgement:
    """A verdict of one reviewer.

    Attributes:
        plan: The plan that asked for it.
        why: See Drawn.
        annotation_id: The box.
        file_name: Its image.
        content_hash: SHA-256 of the image's file in the run, None if the run has none.
        category: Its class.
        x: Left edge in px, as it was mined.
        y: Top edge in px.
        w: Width in px.
        h: Height in px.
        verdict: One of VERDICTS.
        new_x: Left edge of the box as the reviewer corrected it, None without a correction.
        new_y: Top edge.
        new_w: Width.
        new_h: Height.
        reviewer: Name.
        time: ISO 8601, UTC.
    """

    plan: str
    why: Why
    annotation_id: int
    file_name: str
    content_hash: str | None
    category: str
    x: float
    y: float
    w: float
    h: float
    verdict: Verdict
    new_x: float | None
    new_y: float | None
    new_w: float | None
    new_h: float | None
    reviewer: str
    time: str

    @property
    def place(self) -> tuple[int, str, str]:
        """Which row of which plan it fills, and who filled it."""
        return self.annotation_id, self.reviewer, self.plan

    def agrees_with(self, other: "Judgement") -> bool:
        """Return whether both have the same verdict and correction."""
        values = ("verdict", "new_x", "new_y", "new_w", "new_h")
        return all(getattr(self, name) == getattr(other, name) for name in values)


_COLUMNS = ", ".join(field.name for field in fields(Judgement))


class VerdictStore:
    """The verdicts of a run; open it with `open_verdicts`."""

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        self.path = path
        self._connection = connection

    def add_plan(self, plan: str, made: str, drawn: Sequence[Drawn], precision_within: float | None) -> None:
        """Record a plan and what it asks for, in one transaction."""
        with storage_errors(self.path), self._connection:
            self._connection.execute("INSERT INTO plans VALUES (?, ?, ?)", (plan, made, precision_within))
            self._connection.executemany(
                "INSERT INTO drawn VALUES (?, ?, ?, ?)", ((plan, *astuple(one)) for one in drawn)
            )

    def drawn_by(self, plan: str) -> dict[int, Drawn] | None:
        """Return what a plan asks for, by box; None if the run has no such plan."""
        if self._connection.execute("SELECT 1 FROM plans WHERE plan = ?", (plan,)).fetchone() is None:
            return None
        rows = self._connection.execute(
            "SELECT annotation_id, why, inclusion_probability FROM drawn WHERE plan = ?", (plan,)
        )
        return {row[0]: Drawn(*row) for row in rows}

    def plans(self) -> list[str]:
        """Return the names of the run's plans, in the order in which they were drawn."""
        return [row[0] for row in self._connection.execute("SELECT plan FROM plans ORDER BY rowid")]

    def drawn_at_random(self) -> list[int]:
        """Return the boxes that the plans have drawn at random, ascending."""
        return self._ids("random")

    def shown_as_suspicious(self) -> list[int]:
        """Return the boxes that the plans show because they are doubtful, ascending."""
        return self._ids("suspicious")

    def precision_within(self) -> float | None:
        """Return the half width that the last plan with one asks for."""
        row = self._connection.execute(
            "SELECT precision_within FROM plans WHERE precision_within IS NOT NULL ORDER BY rowid DESC LIMIT 1"
        ).fetchone()
        return None if row is None else float(row[0])

    def record(self, judgements: Iterable[Judgement]) -> int:
        """Append verdicts in one transaction; one that repeats the reviewer's last for the same plan is left out.

        Returns:
            How many were appended.
        """
        marks = ", ".join("?" * len(fields(Judgement)))
        latest = {one.place: one for one in self._latest("annotation_id, reviewer, plan")}
        new = [one for one in judgements if (last := latest.get(one.place)) is None or not one.agrees_with(last)]
        with storage_errors(self.path), self._connection:
            self._connection.executemany(
                f"INSERT INTO verdicts ({_COLUMNS}) VALUES ({marks})",
                map(astuple, new),
            )
        return len(new)

    def judgements(self) -> list[Judgement]:
        """Return the last verdict of each reviewer on each box, by box."""
        return self._latest("annotation_id, reviewer")

    def judged_at_random(self) -> set[int]:
        """Return the boxes with a verdict that a random draw asked for.

        A doubtful box that a later plan draws at random is one of them only after it was judged for that plan: until
        then its verdict is known because it is doubtful.
        """
        return {row[0] for row in self._connection.execute("SELECT annotation_id FROM verdicts WHERE why = 'random'")}

    def _latest(self, group: str) -> list[Judgement]:
        rows = self._connection.execute(
            f"SELECT {_COLUMNS} FROM verdicts WHERE number IN (SELECT max(number) FROM verdicts GROUP BY {group}) "
            "ORDER BY annotation_id, reviewer"
        )
        return [Judgement(*row) for row in rows]

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
        to_write: Make the file if there is none; otherwise a run without one has no verdicts.

    Raises:
        InputError: The file is damaged, or another version of boxmine wrote it.
        StorageError: The disk refused it.
    """
    path = run_dir / VERDICTS_FILE
    place = path if to_write or path.exists() else ":memory:"
    with storage_errors(path), closing(sqlite3.connect(place, timeout=60)) as connection:
        try:
            connection.execute("PRAGMA synchronous = FULL")
            version = connection.execute("PRAGMA user_version").fetchone()[0]
            if version not in (0, _VERSION):
                raise InputError(f"{path} is of a later version of boxmine; use that version.")
            if not version:
                connection.execute("PRAGMA journal_mode = WAL")
                connection.executescript(f"{_TABLES} PRAGMA user_version = {_VERSION};")
        except sqlite3.DatabaseError as error:
            if isinstance(error, sqlite3.OperationalError):
                raise
            raise InputError(f"{path} is damaged ({error}); restore it from a copy, or delete it.") from None
        yield VerdictStore(path, connection)
