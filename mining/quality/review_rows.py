"""Rows of audit plans from a file of Label Studio or CVAT."""

from collections.abc import Container, Mapping
from pathlib import Path

from mining.errors import InputError
from mining.quality.plans import FilledRow
from mining.quality.review_files import Review, read_review
from mining.runs.run import Run

_STARTS = (b"[", b"{", b"<", b"PK")  # of JSON, XML and archives; a plan starts with the name of a column


def is_review(path: Path) -> bool:
    """Return whether a file is one of a review tool rather than a plan; False for one that cannot be read."""
    try:
        with path.open("rb") as file:
            return file.read(64).removeprefix(b"\xef\xbb\xbf").lstrip().startswith(_STARTS)
    except OSError:
        return False


def rows_of_review(
    path: Path, run: Run, plans: Mapping[str, Container[int]], min_score: float = 0.0
) -> tuple[list[FilledRow], list[str]]:
    """Read the file of a review as rows of the run's plans.

    Args:
        path: What Label Studio or CVAT exported.
        run: The run.
        plans: The boxes that each plan asks for.
        min_score: As for `read_review`.

    Returns:
        One row per plan and box of it that was looked at, and sentences on what was not taken.

    Raises:
        InputError: As for `read_review`, or no plan asks for a box of the file.
    """
    review = read_review(path, run, min_score=min_score)
    looked_at = [(box.annotation_id, box) for box in review.boxes if box.annotation_id is not None]
    asked = [(plan, number, box) for number, box in looked_at for plan, drawn in plans.items() if number in drawn]
    if not asked:
        raise InputError(
            f"No plan of {run.path} asks for a box of {path}. Draw one with `boxmine audit plan`, and export its "
            "images with `boxmine export --plan`."
        )
    rows = [
        FilledRow(line, plan, number, box.verdict, (box.x, box.y, box.w, box.h))
        for line, (plan, number, box) in enumerate(asked, start=1)
    ]
    return rows, [*review.notes, *_notes(review, len(looked_at) - len({number for _, number, _ in asked}))]


def _notes(review: Review, not_asked: int) -> list[str]:
    added = sum(box.verdict == "missed" for box in review.boxes)
    notes = []
    if not_asked:
        notes.append(f"{not_asked} boxes that were looked at are in no plan; no verdict on them is recorded.")
    if added:
        notes.append(f"{added} boxes were added; objects that the run missed are not recorded.")
    return notes
