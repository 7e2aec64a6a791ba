"""The steps of an audit: draw a plan, record what people filled in, estimate the precision of the run."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from itertools import combinations, groupby
from pathlib import Path
from secrets import token_hex
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mining.arrays import Bools, Floats, Ints
from mining.boxes.iou import paired_iou
from mining.config.audit import VERDICTS, AuditPlanSettings
from mining.errors import InputError
from mining.quality.estimates import (
    Precision,
    estimate_per_class,
    estimate_precision,
    verdicts_for,
    verdicts_to_halve,
)
from mining.quality.plans import FilledRow, read_filled_rows, write_plan
from mining.quality.review_rows import is_review, rows_of_review
from mining.quality.sampling import draw_boxes, stratify
from mining.quality.table import read_quality
from mining.quality.verdicts import Drawn, Judgement, VerdictStore, Why, open_verdicts
from mining.runs.run import CALIBRATION_FILE, Run
from mining.storage.files import sha256_of
from mining.storage.provenance import utc_now

CORRECT_IOU = 0.5  # of a box with its correction
METHOD = "stratified random draw; Wilson interval of the effective sample size; number of verdicts fixed beforehand"
_ENOUGH_TO_EXPECT = 30  # verdicts from which on the share so far says how many are needed


@dataclass(frozen=True)
class PlanSummary:
    """What a plan asks for.

    Attributes:
        plan: Its name.
        out: The CSV file.
        random: Number of boxes drawn at random.
        suspicious: Number of doubtful boxes.
        drawn_before: Number of boxes that earlier plans drew at random.
        boxes: Number of boxes of the run.
    """

    plan: str
    out: Path
    random: int
    suspicious: int
    drawn_before: int
    boxes: int


@dataclass(frozen=True)
class RecordSummary:
    """What was recorded.

    Attributes:
        recorded: New verdicts.
        repeated: Rows whose verdict had been recorded before.
        changed: Rows whose image changed since the run; they are not recorded.
        pending: Boxes of the run's plans that nobody has judged.
        notes: Sentences on what was not taken of a review.
    """

    recorded: int
    repeated: int
    changed: int
    pending: int
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class AuditEstimate:
    """What the verdicts say about all boxes of a run.

    Attributes:
        precision: Estimate over all boxes, None with too few verdicts.
        per_class: The same by class.
        unsure: Boxes that count for nothing because the verdict is unsure, or the reviewers disagree evenly.
        changed: Verdicts that count for nothing because the image changed since.
        pending: Boxes drawn at random that nobody has judged.
        kappa: Cohen's kappa of each pair of reviewers with common boxes, by "name, name".
        within: The half width that was asked for, if any.
        enough: Whether it is reached; None if none was asked for.
        to_halve: How many more verdicts would halve the interval.
    """

    precision: Precision | None
    per_class: dict[str, Precision | None]
    unsure: int
    changed: int
    pending: int
    kappa: dict[str, float] = field(default_factory=dict)
    within: float | None = None
    enough: bool | None = None
    to_halve: int | None = None

    def to_record(self) -> dict[str, Any]:
        """Return the estimate as JSON values."""
        return {
            "precision": _record_of(self.precision),
            "per_class": {name: _record_of(one) for name, one in self.per_class.items()},
            "unsure": self.unsure, "changed": self.changed, "pending": self.pending, "kappa": self.kappa,
            "within": self.within, "enough": self.enough, "more_verdicts_to_halve": self.to_halve,
        }  # fmt: skip


def _record_of(found: Precision | None) -> dict[str, Any] | None:
    return None if found is None else {**asdict(found), "method": METHOD}


# --- plan ------------------------------------------------------------------------------------------------------------


def plan_audit(settings: AuditPlanSettings) -> PlanSummary:
    """Draw boxes of a finished run, record the plan in the run and write its CSV.

    Args:
        settings: The run, how many boxes, and the file.

    Raises:
        InputError: There is nothing to draw.
        RunError: The run is not finished.
    """
    run = Run.open(settings.run, finished=True)
    if settings.out.exists():
        raise InputError(f"{settings.out} exists, and may have verdicts in it: give another --out.")
    table = run.read_annotations(["annotation_id", "file_name", "category", "category_id", "x", "y", "w", "h", "score"])
    if not table.num_rows:
        raise InputError(f"The run {run.path} has no box to judge.")
    random = np.random.default_rng(settings.seed)
    with open_verdicts(run.path) as store:
        before = np.array(store.drawn_at_random(), np.int64)
        ids, category, score = _columns(table)
        left = np.flatnonzero(~np.isin(ids, before))
        count = min(_draws_wanted(settings, run.path, len(ids), len(before)), len(left))
        if count <= 0:
            raise InputError(
                f"The {len(before)} boxes of {run.path} that were drawn so far are enough, or all there are: record "
                "the verdicts on them (`boxmine audit record`)."
            )
        places = left[draw_boxes(stratify(category[left], score[left], count), count, random)]
        share = (len(before) + count) / len(ids)
        drawn = [Drawn(int(ids[place]), "random", share) for place in places]
        if settings.suspicious:
            shown = {*before.tolist(), *(one.annotation_id for one in drawn), *store.shown_as_suspicious()}
            order = np.argsort(_trust(run, score), kind="stable")
            doubtful = [int(one) for one in ids[order] if int(one) not in shown]
            drawn += [Drawn(one, "suspicious") for one in doubtful[:count]]
        plan = token_hex(4)
        write_plan(settings.out, plan, drawn, _boxes_of(table, [one.annotation_id for one in drawn]))
        store.add_plan(plan, utc_now(), drawn, settings.precision_within)
    return PlanSummary(plan, settings.out, count, len(drawn) - count, len(before), len(ids))


def _draws_wanted(settings: AuditPlanSettings, run_dir: Path, boxes: int, before: int) -> int:
    """How many boxes this plan is to draw, after those that earlier ones drew."""
    if settings.precision_within is None:
        return settings.verdicts or VERDICTS
    so_far = estimate_audit(run_dir).precision
    if so_far is None or so_far.verdicts < _ENOUGH_TO_EXPECT:
        return verdicts_for(settings.precision_within, boxes) - before
    # the interval narrows with the root of the number, but for the finite population
    now = (1 / so_far.verdicts - 1 / so_far.boxes) * (settings.precision_within / max(so_far.half_width, 1e-9)) ** 2
    return int(np.ceil(1 / (now + 1 / so_far.boxes))) - before


def _trust(run: Run, score: Floats) -> Floats:
    """The calibrated probability that each box is correct; its score where the run has no calibration."""
    if not (run.path / CALIBRATION_FILE).is_file():
        return score
    probability = read_quality(run)["p_correct"].to_numpy(zero_copy_only=False).astype(np.float64)
    return np.where(np.isfinite(probability), probability, score)


def _columns(table: pa.Table) -> tuple[Ints, Ints, Floats]:
    ids, category, score = (table[name].to_numpy() for name in ("annotation_id", "category_id", "score"))
    return ids.astype(np.int64), category.astype(np.int64), score.astype(np.float64)


def _boxes_of(table: pa.Table, ids: Iterable[int]) -> dict[int, Mapping[str, Any]]:
    some = table.filter(pc.is_in(table["annotation_id"], value_set=pa.array(list(ids), pa.int64())))
    return {row["annotation_id"]: row for row in some.to_pylist()}


# --- record ----------------------------------------------------------------------------------------------------------


def record_verdicts(run_dir: Path, path: Path, reviewer: str, min_score: float = 0.0) -> RecordSummary:
    """Record the verdicts of a filled-in plan: all of them, or none if a row is invalid.

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
        boxes = _boxes_of(run.read_annotations(columns), (row.annotation_id for row in rows))
        why = _why_of(store, rows, path, run)
        hashes = _hashes_now(run, {str(boxes[row.annotation_id]["file_name"]) for row in rows})
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


def _hashes_now(run: Run, names: Iterable[str]) -> dict[str, str | None]:
    """SHA-256 of each image's file; None for a missing file, empty for one that is not the run's any more."""
    corpus = run.read_corpus(["file_name", "bytes", "content_hash"])
    some = corpus.filter(pc.is_in(corpus["file_name"], value_set=pa.array(sorted(names), pa.string())))
    found: dict[str, str | None] = {}
    for row in some.to_pylist():
        path = run.image_root / row["file_name"]
        digest = sha256_of(path) if path.is_file() else None
        was = row["content_hash"]
        is_another = digest is not None and (
            digest != was if was is not None else row["bytes"] not in (None, path.stat().st_size)
        )
        found[row["file_name"]] = "" if is_another else digest
    return found


# --- estimate --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class JudgedBoxes:
    """The boxes of a run, and the verdicts on those that were drawn at random.

    Attributes:
        category: (N,) class of each box.
        score: (N,) score of each box.
        judged: (n,) places of the boxes with a verdict that counts.
        is_correct: (n,) what it says.
        names: Class names by category.
        undecided: Boxes that count for nothing because the verdict is unsure, or the reviewers disagree evenly.
        changed: Verdicts that count for nothing because the image changed since.
        pending: Boxes drawn at random that nobody has judged for that draw.
        verdicts: Those that count, one per reviewer and box.
        within: The half width that a plan asks for, if any.
    """

    category: Ints
    score: Floats
    judged: Ints
    is_correct: Bools
    names: dict[int, str]
    undecided: int
    changed: int
    pending: int
    verdicts: list[Judgement]
    within: float | None


def judged_boxes(run_dir: Path) -> JudgedBoxes:
    """Read the boxes of a run and the verdicts on those that were drawn at random.

    Of several reviewers of a box the majority counts; where there is none, the box counts for nothing.

    Raises:
        RunError: The run is not finished.
        InputError: The verdicts are damaged.
    """
    run = Run.open(run_dir, finished=True)
    table = run.read_annotations(["annotation_id", "category_id", "category", "score"])
    with open_verdicts(run.path, to_write=False) as store:
        drawn, within, at_random = store.drawn_at_random(), store.precision_within(), store.judged_at_random()
        every = [one for one in store.judgements() if one.annotation_id in at_random]
    hashes = _hashes_now(run, {one.file_name for one in every})
    kept = [one for one in every if one.content_hash is None or hashes.get(one.file_name) in (None, one.content_hash)]
    outcomes = {box: _majority(list(group)) for box, group in groupby(kept, key=lambda one: one.annotation_id)}
    decided = {box: outcome for box, outcome in sorted(outcomes.items()) if outcome is not None}
    ids, category, score = _columns(table)
    order = np.argsort(ids)
    places = order[np.searchsorted(ids, np.array(list(decided), np.int64), sorter=order)]
    names = dict(zip(category.tolist(), table["category"].to_pylist(), strict=True))
    return JudgedBoxes(
        category, score, places, np.array(list(decided.values()), bool), names, len(outcomes) - len(decided),
        len(every) - len(kept), len(set(drawn) - outcomes.keys()), kept, within,
    )  # fmt: skip


def estimate_audit(run_dir: Path) -> AuditEstimate:
    """Estimate the precision of a run from the verdicts on boxes that were drawn at random, see `judged_boxes`.

    Raises:
        RunError: The run is not finished.
        InputError: The verdicts are damaged.
    """
    boxes = judged_boxes(run_dir)
    precision = estimate_precision(boxes.category, boxes.score, boxes.judged, boxes.is_correct)
    by_class = estimate_per_class(boxes.category, boxes.score, boxes.judged, boxes.is_correct)
    return AuditEstimate(
        precision, {boxes.names[one]: found for one, found in by_class.items()}, boxes.undecided, boxes.changed,
        boxes.pending, _kappas(boxes.verdicts), boxes.within, _is_enough(precision, boxes.within, boxes.pending),
        None if precision is None else verdicts_to_halve(precision),
    )  # fmt: skip


def _is_enough(precision: Precision | None, within: float | None, pending: int) -> bool | None:
    if within is None:
        return None
    if precision is None:
        return False
    interval = precision.ci95 if not pending else precision.ci95_any_time
    return interval is not None and (interval[1] - interval[0]) / 2 <= within


def is_correct(judgement: Judgement) -> bool | None:
    """Return whether a reviewer finds the box correct: the verdict, and IoU >= 0.5 with the correction if there is one.

    None for an unsure verdict.
    """
    if judgement.verdict == "unsure":
        return None
    if judgement.verdict != "correct" or judgement.new_x is None:
        return judgement.verdict == "correct"
    pairs = np.array(
        [
            (judgement.x, judgement.y, judgement.w, judgement.h),
            (judgement.new_x, judgement.new_y, judgement.new_w, judgement.new_h),
        ],
        np.float64,
    )
    pairs[:, 2:] += pairs[:, :2]
    return bool(paired_iou(pairs[:1], pairs[1:])[0] >= CORRECT_IOU)


def _majority(judgements: list[Judgement]) -> bool | None:
    found = [one for one in map(is_correct, judgements) if one is not None]
    return None if 2 * sum(found) == len(found) else 2 * sum(found) > len(found)


def _kappas(judgements: list[Judgement]) -> dict[str, float]:
    """Cohen's kappa of each pair of reviewers on the boxes that both are sure of."""
    from sklearn.metrics import cohen_kappa_score

    by_reviewer: dict[str, dict[int, bool]] = {}
    for one in judgements:
        if (outcome := is_correct(one)) is not None:
            by_reviewer.setdefault(one.reviewer, {})[one.annotation_id] = outcome
    found = {}
    for first, second in combinations(sorted(by_reviewer), 2):
        common = sorted(by_reviewer[first].keys() & by_reviewer[second].keys())
        if common:
            pairs = [[by_reviewer[who][box] for box in common] for who in (first, second)]
            # of verdicts that are all the same it is not defined: agreement by chance is complete
            found[f"{first}, {second}"] = 1.0 if pairs[0] == pairs[1] else float(cohen_kappa_score(*pairs))
    return found
