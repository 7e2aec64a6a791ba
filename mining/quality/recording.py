"""Record the verdicts of a filled-in plan, of a review in another tool, or of another run of the same images."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from mining.corpus.names import normalise_class_name
from mining.errors import InputError, did_you_mean
from mining.quality.audited_run import hashes_now
from mining.quality.carrying import carry_verdicts
from mining.quality.filled_plans import Filled, FilledImage, FilledRow, read_filled_plan
from mining.quality.judgements import COMPLETE, Box, ImageJudgement, Judgement, MissedObject, Why
from mining.quality.review_rows import PlanContent, is_review, rows_of_review
from mining.quality.verdict_table import write_verdict_table
from mining.quality.verdicts import open_verdicts
from mining.runs.run import Run
from mining.storage.provenance import utc_now

_COLUMNS = ["annotation_id", "file_name", "category", "x", "y", "w", "h"]


@dataclass(frozen=True)
class RecordSummary:
    """What was recorded.

    Attributes:
        recorded: New verdicts on boxes.
        repeated: Rows whose verdict had been recorded before.
        images: New verdicts on images that were looked at whole.
        changed: Rows whose image changed since the run; they are not recorded.
        pending: Boxes of the run's plans that nobody has judged.
        pending_images: Images of the run's plans that nobody has looked at whole.
        notes: What was left out, or is in no estimate.
    """

    recorded: int
    repeated: int
    images: int
    changed: int
    pending: int
    pending_images: int
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
    filled = None if is_review(path) else read_filled_plan(path)
    with open_verdicts(run.path) as store:
        plans = {
            name: PlanContent(store.drawn_by(name) or {}, frozenset(store.images_of(name))) for name in store.plans()
        }
        filled = rows_of_review(path, run, plans, min_score) if filled is None else filled
        given = _Given(run, path, filled, plans, reviewer.strip())
        before = {one.annotation_id for one in store.judgements() if one.reviewer == reviewer.strip()}
        given.check_images(before)
        judgements, images = given.judgements(), given.image_judgements()
        recorded, new_images = store.record(judgements, images)
        write_verdict_table(store)
        pending, pending_images = store.pending()
    changed = len(filled.rows) + len(filled.images) - len(judgements) - len(images)
    return RecordSummary(
        recorded, len(judgements) - recorded, new_images, changed, pending, pending_images, filled.notes
    )


@dataclass(frozen=True)
class CarrySummary:
    """What was carried over from another run.

    Attributes:
        recorded: New verdicts on boxes.
        images: New verdicts on images that were looked at whole.
        known: Verdicts on boxes that the same reviewer had judged here already.
        unmatched: Verdicts on boxes of the other run that no box here is like.
        other_images: Judged images of the other run that this run does not have, or whose file changed.
    """

    recorded: int
    images: int
    known: int
    unmatched: int
    other_images: int


def record_carried(run_dir: Path, other_dir: Path) -> CarrySummary:
    """Record the verdicts of another run of the same images on the boxes that are like the ones judged there.

    Args:
        run_dir: Run directory.
        other_dir: Run directory of the other run.

    Raises:
        InputError: The other run is the same, has no verdicts, or shares no judged image with this one.
        RunError: A run is not finished.
    """
    run, other = Run.open(run_dir, finished=True), Run.open(other_dir, finished=True)
    found = carry_verdicts(run, other)
    with open_verdicts(run.path) as store:
        judged = {(one.annotation_id, one.reviewer) for one in store.judgements() if one.why != "carried"}
        seen = {(one.file_name, one.reviewer) for one in store.image_judgements()}
        boxes = [one for one in found.boxes if (one.annotation_id, one.reviewer) not in judged]
        images = [one for one in found.images if (one.file_name, one.reviewer) not in seen]
        recorded, new_images = store.record(boxes, images)
        write_verdict_table(store)
    return CarrySummary(recorded, new_images, len(found.boxes) - len(boxes), found.unmatched, found.other_images)


class _Given:
    """What a reviewer gave, checked against the run and its plans."""

    def __init__(self, run: Run, path: Path, filled: Filled, plans: Mapping[str, PlanContent], reviewer: str) -> None:
        self.path, self.filled, self.plans, self.reviewer = path, filled, plans, reviewer
        self.run_dir, self.is_review = run.path, is_review(path)
        self.classes = {normalise_class_name(name): name for _, name in run.classes}
        self.boxes = _boxes_of(
            run, (row.annotation_id for row in filled.rows), (one.file_name for one in filled.images)
        )
        self.sizes = _sizes_of(run)
        for row in filled.rows:
            self._check_row(row)
        for image in filled.images:
            self._check_image(image)
        names = {str(self.boxes[row.annotation_id]["file_name"]) for row in filled.rows}
        self.hashes = hashes_now(run, names | {one.file_name for one in filled.images})

    def check_images(self, judged_before: set[int]) -> None:
        """Refuse an image as looked at whole while a box of it has no verdict of the reviewer."""
        judged = judged_before | {row.annotation_id for row in self.filled.rows}
        open_boxes: dict[str, list[int]] = {}
        for number, box in self.boxes.items():
            if number not in judged:
                open_boxes.setdefault(str(box["file_name"]), []).append(number)
        for image in self.filled.images:
            if left := open_boxes.get(image.file_name):
                raise self._refuse(
                    image.line, "verdict", f"{image.file_name!r} is {COMPLETE}, but {len(left)} of its boxes have no "
                    f"verdict, first annotation_id {min(left)}"
                )  # fmt: skip

    def judgements(self) -> list[Judgement]:
        """The verdicts on boxes of images that are still the run's."""
        return [self._judgement(row) for row in self.filled.rows if self._hash_of(row) != ""]

    def image_judgements(self) -> list[ImageJudgement]:
        """The same of images."""
        return [
            ImageJudgement(
                one.plan,
                one.file_name,
                self.hashes[one.file_name],
                tuple(MissedObject(self.classes[other.category], other.xywh) for other in one.missed),
                self.reviewer,
                utc_now(),
            )
            for one in self.filled.images
            if self.hashes[one.file_name] != ""
        ]

    def _hash_of(self, row: FilledRow) -> str | None:
        return self.hashes[str(self.boxes[row.annotation_id]["file_name"])]

    def _judgement(self, row: FilledRow) -> Judgement:
        box = self.boxes[row.annotation_id]
        x, y, w, h = (float(box[side]) for side in ("x", "y", "w", "h"))
        new_x, new_y, new_w, new_h = row.correction((x, y, w, h)) or (None, None, None, None)
        return Judgement(
            plan=row.plan, why=self._why(row), annotation_id=row.annotation_id, file_name=str(box["file_name"]),
            content_hash=self._hash_of(row), category=str(box["category"]), x=x, y=y, w=w, h=h, verdict=row.verdict,
            new_x=new_x, new_y=new_y, new_w=new_w, new_h=new_h, new_category=self._new_category(row),
            reviewer=self.reviewer, time=utc_now(),
        )  # fmt: skip

    def _new_category(self, row: FilledRow) -> str | None:
        if normalise_class_name(str(self.boxes[row.annotation_id]["category"])) == row.category:
            return None
        return self.classes.get(row.category)

    def _why(self, row: FilledRow) -> Why:
        if not row.plan:
            return "review"
        drawn = self.plans[row.plan].boxes.get(row.annotation_id)
        return "image" if drawn is None else drawn.why

    # --- checks -------------------------------------------------------------------------------------------------------

    def _check_row(self, row: FilledRow) -> None:
        """Refuse a row of another run's plan, and a class that contradicts its verdict."""
        plan = self._plan(row.plan, row.line)
        box = self.boxes.get(row.annotation_id)
        if box is None or (
            plan is not None and row.annotation_id not in plan.boxes and box["file_name"] not in plan.images
        ):
            raise self._refuse(row.line, "annotation_id", f"the plan {row.plan} has no box {row.annotation_id}")
        self._check_place(str(box["file_name"]), row.xywh, row.line)
        if self._is_class_of(row, str(box["category"])):
            return
        if row.verdict != "wrong_class":
            raise self._refuse(
                row.line, "category", f"{row.category!r} is not the class of the box, {box['category']!r}; a box of "
                "another class has the verdict wrong_class"
            )  # fmt: skip
        if not self.is_review:  # there a class that the run does not have is no correction
            self._check_class(row.category, row.line)

    def _is_class_of(self, row: FilledRow, category: str) -> bool:
        return row.category == normalise_class_name(category)

    def _check_image(self, image: FilledImage) -> None:
        plan = self._plan(image.plan, image.line)
        if plan is not None and image.file_name not in plan.images:
            raise self._refuse(image.line, "file_name", f"the plan {image.plan} has no image {image.file_name!r}")
        for one in image.missed:
            self._check_class(one.category, one.line)
            if one.xywh is not None:
                self._check_place(image.file_name, one.xywh, one.line)

    def _check_place(self, file_name: str, xywh: Box, line: int) -> None:
        """Refuse a box outside of its image."""
        width, height = self.sizes.get(file_name, (None, None))
        x, y, w, h = xywh
        if width is not None and height is not None and not (x < width and y < height and x + w > 0 and y + h > 0):
            raise self._refuse(line, "x", f"the box lies outside of {file_name!r}, which has {width} x {height} px")

    def _check_class(self, category: str, line: int) -> None:
        if category not in self.classes:
            choices = did_you_mean(category, self.classes.values())
            raise self._refuse(line, "category", f"{category!r} is no class of the run; {choices.rstrip('.')}")

    def _plan(self, name: str, line: int) -> PlanContent | None:
        """The plan of a row; None for a row of a review that no plan asks for."""
        if not name and self.is_review:
            return None
        if name not in self.plans:
            raise self._refuse(line, "plan", f"{name!r} is no plan of {self.run_dir}")
        return self.plans[name]

    def _refuse(self, line: int, column: str, why: str) -> InputError:
        return InputError(f"{self.path}, line {line}, column {column}: {why}; nothing was recorded.")


def _boxes_of(run: Run, ids: Iterable[int], images: Iterable[str]) -> dict[int, Mapping[str, Any]]:
    """Rows of annotations.parquet, by annotation_id, of some boxes and of all boxes of some images."""
    table = run.read_annotations(_COLUMNS)
    is_wanted = pc.or_(
        pc.is_in(table["annotation_id"], value_set=pa.array(list(ids), pa.int64())),
        pc.is_in(table["file_name"], value_set=pa.array(list(images), pa.string())),
    )
    return {row["annotation_id"]: row for row in table.filter(is_wanted).to_pylist()}


def _sizes_of(run: Run) -> dict[str, tuple[int | None, int | None]]:
    """Width and height of the images by name."""
    names, widths, heights = (
        column.to_pylist() for column in run.read_corpus(["file_name", "width", "height"]).columns
    )
    return dict(zip(names, zip(widths, heights, strict=True), strict=True))
