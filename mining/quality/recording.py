"""Record the verdicts of a filled-in plan, or of a review in another tool."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mining.errors import InputError
from mining.quality.audited_run import boxes_by_id, hashes_now
from mining.quality.plans import FilledRow, read_filled_rows
from mining.quality.review_files import ReviewedBox, read_review
from mining.quality.verdicts import Judgement, VerdictStore, Why, open_verdicts
from mining.runs.run import Run
from mining.storage.provenance import utc_now

REVIEW_FILES = (".json", ".xml")


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


def record_verdicts(run_dir: Path, path: Path, reviewer: str) -> RecordSummary:
    """Record the verdicts of a filled-in plan, or of a review in another tool: all of them, or none if one is invalid.

    Args:
        run_dir: Run directory.
        path: The plan's CSV, or what Label Studio (JSON) or CVAT (XML) exported after a review of the plan's images.
        reviewer: Name of the person.

    Raises:
        InputError: The file is no plan, of another run, or a value is invalid; the message has line and column.
        RunError: The run is not finished.
    """
    run = Run.open(run_dir, finished=True)
    if not reviewer.strip():
        raise InputError("Give the reviewer's name: --reviewer NAME.")
    notes: list[str] = []
    with open_verdicts(run.path) as store:
        if path.suffix.lower() in REVIEW_FILES:
            rows, notes = _rows_of_review(store, path, run)
        else:
            rows = read_filled_rows(path)
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


def _rows_of_review(store: VerdictStore, path: Path, run: Run) -> tuple[list[FilledRow], list[str]]:
    """The verdicts of a review on the boxes of each plan that it covers completely, and notes.

    People review in an order of their own, often the doubtful ones first: a part of a random draw that was chosen so is
    no random draw.
    """
    review = read_review(path, run)
    judged = {one.annotation_id: one for one in review.boxes if one.annotation_id is not None}
    rows: list[FilledRow] = []
    missing: dict[str, int] = {}
    for plan in store.plans():
        asked = (store.drawn_by(plan) or {}).keys()
        missing[plan] = len(asked - judged.keys())
        if not missing[plan]:
            rows += [_row(len(rows) + number, plan, judged[box]) for number, box in enumerate(sorted(asked))]
    if not rows:
        nearest = min(missing, key=lambda plan: missing[plan], default=None)
        raise InputError(
            f"The run {run.path} has no plan: draw one with `boxmine audit plan`, and review its images."
            if nearest is None
            else f"{path} lacks {missing[nearest]} boxes of the plan {nearest}: review all of its images (`boxmine "
            "export --plan`), because boxes that a person chose are no random draw; or fill in the plan's CSV file."
        )
    added = sum(one.verdict == "missed" for one in review.boxes)
    more = [f"Boxes that were added in {review.tool} are not recorded: {added}."] if added else []
    return rows, [*review.notes, *more]


def _row(line: int, plan: str, box: ReviewedBox) -> FilledRow:
    return FilledRow(line, plan, box.annotation_id or 0, box.verdict, (box.x, box.y, box.w, box.h))


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
