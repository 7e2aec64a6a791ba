"""Verdicts from a file of Label Studio or CVAT: those of plans that it covers completely, and all others."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from mining.corpus.names import normalise_class_name
from mining.errors import did_you_mean
from mining.quality.filled_plans import Filled, FilledImage, FilledObject, FilledRow
from mining.quality.judgements import Drawn
from mining.quality.review_files import Review, ReviewedBox, read_review
from mining.runs.run import Run

_STARTS = (b"[", b"{", b"<", b"PK")  # of JSON, XML and archives; a plan starts with the name of a column


@dataclass(frozen=True)
class PlanContent:
    """What a plan asks for.

    Attributes:
        boxes: Its boxes by id.
        images: Names of the images to be looked at whole.
    """

    boxes: Mapping[int, Drawn]
    images: frozenset[str]


def is_review(path: Path) -> bool:
    """Return whether a file is one of a review tool rather than a plan; False for one that cannot be read."""
    try:
        with path.open("rb") as file:
            return file.read(64).removeprefix(b"\xef\xbb\xbf").lstrip().startswith(_STARTS)
    except OSError:
        return False


def rows_of_review(path: Path, run: Run, plans: Mapping[str, PlanContent], min_score: float = 0.0) -> Filled:
    """Read the file of a review: verdicts for the plans that it covers completely, the others for no plan.

    People review in an order of their own, often the doubtful ones first: a part of a random draw that was chosen so is
    no random draw. Its verdicts are corrections all the same.

    Args:
        path: What Label Studio or CVAT exported.
        run: The run.
        plans: The run's plans by name.
        min_score: As for `read_review`.

    Returns:
        One row per box and plan that asked for it, one per box that none did, the images with what was missed on them,
        and sentences on what does not count.

    Raises:
        InputError: As for `read_review`.
    """
    review = read_review(path, run, min_score=min_score)
    known = [name for _, name in run.classes]
    boxes, notes = _of_known_classes(review.boxes, known, path)
    images = set(review.images)
    judged = {box.annotation_id: box for box in boxes if box.annotation_id is not None}
    lacking = {name: _lacking(plan, judged.keys(), images) for name, plan in plans.items()}
    covered = {name: plans[name] for name, lacks in lacking.items() if not lacks}
    rows, filled = _rows(judged, covered), _images(boxes, sorted(images), covered)
    touched = (
        f"{path.name} lacks {lacks} of the plan {name}: because people choose what they look at first, no estimate "
        f"uses its verdicts on that plan. Review all of its images, or fill in its CSV file."
        for name, lacks in lacking.items()
        if lacks and (plans[name].boxes.keys() & judged.keys() or plans[name].images & images)
    )
    return Filled(rows, filled, [*review.notes, *notes, *touched, *_note_on_rest(review, rows)])


def _of_known_classes(boxes: list[ReviewedBox], known: list[str], path: Path) -> tuple[list[ReviewedBox], list[str]]:
    """Leave out missed objects of classes that the run does not have."""
    names = {normalise_class_name(name) for name in known}
    unknown = [box for box in boxes if box.verdict == "missed" and normalise_class_name(box.category) not in names]
    if not unknown:
        return boxes, []
    first = unknown[0].category
    why = f"first {first!r}; {did_you_mean(first, known)}" if first else f"first on {unknown[0].file_name!r}"
    left_out = set(unknown)
    return [box for box in boxes if box not in left_out], [
        f"Added boxes of {path.name} without a class of the run, left out: {len(unknown)}, {why}"
    ]


def _lacking(plan: PlanContent, judged: Collection[int], images: set[str]) -> str:
    """What of a plan's random draw was not looked at, in words; empty if all was."""
    boxes = sum(one.why == "random" and number not in judged for number, one in plan.boxes.items())
    missing = len(plan.images - images)
    return " and ".join([f"{boxes} boxes"] * bool(boxes) + [f"{missing} images to be looked at whole"] * bool(missing))


def _rows(judged: Mapping[int, ReviewedBox], covered: Mapping[str, PlanContent]) -> list[FilledRow]:
    rows = []
    for line, (number, box) in enumerate(judged.items(), start=1):
        asked = [name for name, plan in covered.items() if number in plan.boxes or box.file_name in plan.images]
        rows += [
            FilledRow(line, name, number, box.verdict, normalise_class_name(box.category), (box.x, box.y, box.w, box.h))
            for name in asked or [""]
        ]
    return rows


def _images(boxes: list[ReviewedBox], images: list[str], covered: Mapping[str, PlanContent]) -> list[FilledImage]:
    missed: dict[str, list[FilledObject]] = {}
    for line, box in enumerate(boxes, start=1):
        if box.verdict == "missed":
            known = FilledObject(line, normalise_class_name(box.category), (box.x, box.y, box.w, box.h))
            missed.setdefault(box.file_name, []).append(known)
    return [
        FilledImage(line, plan, name, tuple(missed.get(name, ())))
        for line, name in enumerate(images, start=1)
        for plan in [one for one, content in covered.items() if name in content.images] or [""]
    ]


def _note_on_rest(review: Review, rows: list[FilledRow]) -> list[str]:
    others = sum(not row.plan for row in rows)
    if not others:
        return []
    return [f"{others} boxes that no plan asks for were judged; `boxmine audit apply` uses them, estimates do not."]
