"""Rows of audit plans from a file of Label Studio or CVAT."""

from collections.abc import Mapping
from pathlib import Path

from mining.errors import InputError
from mining.quality.plans import FilledRow
from mining.quality.review_files import Review, read_review
from mining.quality.verdicts import Drawn
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
    path: Path, run: Run, plans: Mapping[str, Mapping[int, Drawn]], min_score: float = 0.0
) -> tuple[list[FilledRow], list[str]]:
    """Read the file of a review as rows of the plans whose random draw it covers completely.

    People review in an order of their own, often the doubtful ones first: a part of a random draw that was chosen so is
    no random draw.

    Args:
        path: What Label Studio or CVAT exported.
        run: The run.
        plans: The boxes that each plan asks for.
        min_score: As for `read_review`.

    Returns:
        One row per plan and box of it that was looked at, and sentences on what was not taken.

    Raises:
        InputError: As for `read_review`, no plan asks for a box of the file, or boxes of all plans are missing in it.
    """
    review = read_review(path, run, min_score=min_score)
    looked_at = [(box.annotation_id, box) for box in review.boxes if box.annotation_id is not None]
    asked = [(plan, number, box) for number, box in looked_at for plan, drawn in plans.items() if number in drawn]
    if not asked:
        raise InputError(
            f"No plan of {run.path} asks for a box of {path}. Draw one with `boxmine audit plan`, and export its "
            "images with `boxmine export --plan`."
        )
    shown = {number for number, _ in looked_at}
    missing = {name: _missing(plans[name], shown) for name in dict.fromkeys(plan for plan, _, _ in asked)}
    asked = [one for one in asked if not missing[one[0]]]
    if not asked:
        nearest = min(missing, key=lambda name: missing[name])
        raise InputError(
            f"{path} lacks {missing[nearest]} boxes of the plan {nearest}. Review all of its images, because boxes "
            "that a person chose are no random draw; or fill in the plan's CSV file."
        )
    rows = [
        FilledRow(line, plan, number, box.verdict, (box.x, box.y, box.w, box.h))
        for line, (plan, number, box) in enumerate(asked, start=1)
    ]
    return rows, [*review.notes, *_notes(review, len(looked_at) - len({number for _, number, _ in asked}))]


def _missing(drawn: Mapping[int, Drawn], shown: set[int]) -> int:
    """How many boxes of a random draw were not looked at."""
    return sum(one.why == "random" and number not in shown for number, one in drawn.items())


def _notes(review: Review, not_asked: int) -> list[str]:
    added = sum(box.verdict == "missed" for box in review.boxes)
    notes = []
    if not_asked:
        notes.append(f"{not_asked} boxes that were looked at are in no plan; no verdict on them is recorded.")
    if added:
        notes.append(f"{added} boxes were added; objects that the run missed are not recorded.")
    return notes
