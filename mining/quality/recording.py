"""Record the verdicts of a filled-in plan, or of a review in another tool."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mining.errors import InputError
from mining.quality.audited_run import boxes_by_id, hashes_now
from mining.quality.plans import FilledRow, read_filled_rows
from mining.quality.review_rows import is_review, rows_of_review
from mining.quality.verdicts import Judgement, VerdictStore, Why, open_verdicts
from mining.runs.run import Run
from mining.storage.provenance import utc_now


@dataclass(frozen=True)
class RecordSummary:
    """What was recorded.

    Attributes:
        recorded: New verdicts.
        repeated: Rows whose verdict had been recorded before.
        changed: Rows whose image changed since the run; they are not recorded.
        pending: Boxes of the run's plans that nobody has judged.
        notes: What of a review in another tool was left out.
    """

    recorded: int
    repeated: int
    changed: int
    pending: int
    notes: list[str] = field(default_factory=list)


def record_verdicts(run_dir: Path, path: Path, reviewer: str, min_score: float = 0.0) -> RecordSummary:
    """Record the verdicts of a filled-in plan, or of a review in another tool: all of them, or none if one is invalid.

    Args:
        run_dir: Run directory.
        path: The plan's CSV, or what Label Studio (JSON) or CVAT (XML) exported after a review of the plan's images.
        reviewer: Name of the person.
        min_score: Of a review: the minimum score of the export that was reviewed.

    Raises:
        InputError: The file is no plan, of another run, or a value is invalid; the message has line and column.
        RunError: The run is not finished.
    """
    run = Run.open(run_dir, finished=True)
    if not reviewer.strip():
        raise InputError("Give the reviewer's name: --reviewer NAME.")
    filled = None if is_review(path) else read_filled_rows(path)
    with open_verdicts(run.path) as store:
        rows, notes = _review_rows(path, run, store, min_score) if filled is None else (filled, [])
        columns = ["annotation_id", "file_name", "category", "x", "y", "w", "h"]
        boxes = boxes_by_id(run.read_annotations(columns), (row.annotation_id for row in rows))
        why = _why_of(store, rows, path, run)
        hashes = hashes_now(run, {str(boxes[row.annotation_id]["file_name"]) for row in rows})
        judgements = [
            _judgement(row, boxes[row.annotation_id], why[row.line], hashes, reviewer.strip())
            for row in rows
            if hashes[str(boxes[row.annotation_id]["file_name"])] != ""
        ]
        recorded = store.record(judgements)
        judged = {one.annotation_id for one in store.judgements()}
        pending = len({*store.drawn_at_random(), *store.shown_as_suspicious()} - judged)
    return RecordSummary(recorded, len(judgements) - recorded, len(rows) - len(judgements), pending, notes)


def _review_rows(path: Path, run: Run, store: VerdictStore, min_score: float) -> tuple[list[FilledRow], list[str]]:
    """The rows that a review fills in, and notes on what was not taken."""
    plans = {name: store.drawn_by(name) or {} for name in store.plans()}
    return rows_of_review(path, run, plans, min_score)


def _why_of(store: VerdictStore, rows: list[FilledRow], path: Path, run: Run) -> dict[int, Why]:
    """Why each row's box was shown, by line; refuses rows of another run's plan."""
    plans = {name: store.drawn_by(name) for name in {row.plan for row in rows}}
    found = {}
    for row in rows:
        drawn = plans[row.plan]
        if drawn is None:
            raise InputError(
                f"{path}, line {row.line}, column plan: {row.plan!r} is no plan of {run.path}; nothing was recorded."
            )
        if row.annotation_id not in drawn:
            raise InputError(
                f"{path}, line {row.line}, column annotation_id: the plan {row.plan} has no box {row.annotation_id}; "
                "nothing was recorded."
            )
        found[row.line] = drawn[row.annotation_id].why
    return found


def _judgement(
    row: FilledRow, box: Mapping[str, Any], why: Why, hashes: Mapping[str, str | None], reviewer: str
) -> Judgement:
    x, y, w, h = (float(box[side]) for side in ("x", "y", "w", "h"))
    new_x, new_y, new_w, new_h = row.correction((x, y, w, h)) or (None, None, None, None)
    return Judgement(
        plan=row.plan, why=why, annotation_id=row.annotation_id, file_name=str(box["file_name"]),
        content_hash=hashes[str(box["file_name"])], category=str(box["category"]), x=x, y=y, w=w, h=h,
        verdict=row.verdict, new_x=new_x, new_y=new_y, new_w=new_w, new_h=new_h, reviewer=reviewer, time=utc_now(),
    )  # fmt: skip
