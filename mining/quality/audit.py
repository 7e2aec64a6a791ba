"""Estimate precision, number of objects and recall of a run from verdicts on boxes and images drawn at random."""

from collections.abc import Iterable, Set
from dataclasses import asdict, dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mining.arrays import Bools, Floats, Ints
from mining.quality.agreement import agreements
from mining.quality.audited_run import box_columns, hashes_now, is_another_image
from mining.quality.estimates import Precision, Sample, estimate_per_class, estimate_precision, verdicts_to_halve
from mining.quality.expectations import expected_outcomes, takes_signals
from mining.quality.image_outcomes import ObjectAudit, estimate_run_objects
from mining.quality.judgements import Judgement
from mining.quality.object_estimates import Objects
from mining.quality.outcomes import majority
from mining.quality.table import read_boxes_with_quality
from mining.quality.verdicts import VerdictStore, open_verdicts
from mining.runs.run import Run

METHOD = (
    "stratified random draw; difference estimator with cross-fitted expectations; Wilson interval of the effective "
    "sample size; number of verdicts fixed beforehand"
)
METHOD_OF_OBJECTS = "stratified draw of images; Student's interval of the logarithm; number of images fixed beforehand"
METHOD_OF_RECALL = "stratified draw of images, combined ratio; Wilson interval; number of images fixed beforehand"


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
        objects: Number of objects and recall, None unless a plan asks for whole images.
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
    objects: ObjectAudit | None = None

    def to_record(self) -> dict[str, Any]:
        """Return the estimate as JSON values."""
        return {
            "precision": _record_of(self.precision),
            "per_class": {name: _record_of(one) for name, one in self.per_class.items()},
            "unsure": self.unsure, "changed": self.changed, "pending": self.pending, "kappa": self.kappa,
            "within": self.within, "enough": self.enough, "more_verdicts_to_halve": self.to_halve,
            **_record_of_objects(self.objects),
        }  # fmt: skip


def _record_of(found: Precision | None) -> dict[str, Any] | None:
    return None if found is None else {**asdict(found), "method": METHOD}


def _record_of_objects(audit: ObjectAudit | None) -> dict[str, Any]:
    if audit is None:
        return {"objects": None, "recall": None}
    found = {name: (_record_of_number(one), _record_of_recall(one)) for name, one in audit.per_class.items()}
    number, recall = _record_of_number(audit.objects), _record_of_recall(audit.objects)
    return {
        "objects": number and {
            **number, "method": METHOD_OF_OBJECTS, "pending_images": audit.pending, "changed_images": audit.changed,
            "per_class": {name: one[0] for name, one in found.items()},
        },
        "recall": recall and {
            **recall, "method": METHOD_OF_RECALL, "per_class": {name: one[1] for name, one in found.items()}
        },
    }  # fmt: skip


def _record_of_number(found: Objects | None) -> dict[str, Any] | None:
    if found is None:
        return None
    return {
        "value": found.value, "ci95": found.ci95, "seen": found.seen, "images": found.images,
        "of_images": found.of_images,
    }  # fmt: skip


def _record_of_recall(found: Objects | None) -> dict[str, Any] | None:
    if found is None or found.recall is None:
        return None
    return {"value": found.recall, "ci95": found.recall_ci95, "images": found.images}


@dataclass(frozen=True)
class JudgedBoxes:
    """The boxes of a run, and the verdicts on those that were drawn at random.

    Attributes:
        category: (N,) class of each box.
        score: (N,) score of each box.
        judged: (n,) places of the boxes with a verdict that counts.
        is_correct: (n,) what it says.
        expected: (N,) outcome that is to be expected of each box, see `expected_outcomes`.
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
    expected: Floats
    names: dict[int, str]
    undecided: int
    changed: int
    pending: int
    verdicts: list[Judgement]
    within: float | None

    @property
    def sample(self) -> Sample:
        """What estimates are made from."""
        return Sample(self.expected, self.judged, self.is_correct)


@dataclass(frozen=True)
class RandomOutcomes:
    """What people say of boxes that were drawn at random.

    Attributes:
        kept: The verdicts that count, one per reviewer and box.
        outcomes: What most reviewers of a box say, None where there is no majority; by annotation_id.
        changed: Verdicts that count for nothing because the image changed since.
    """

    kept: list[Judgement]
    outcomes: dict[int, bool | None]
    changed: int

    @property
    def decided(self) -> dict[int, bool]:
        """The outcomes that are known, by annotation_id, ascending."""
        return {box: outcome for box, outcome in sorted(self.outcomes.items()) if outcome is not None}


def outcomes_at_random(run: Run, store: VerdictStore, boxes: Set[int] | None = None) -> RandomOutcomes:
    """Return what people say of boxes that were drawn at random.

    Args:
        run: The run.
        store: Its verdicts.
        boxes: Only these annotation_ids; None = all.
    """
    at_random = store.judged_at_random() if boxes is None else boxes & store.judged_at_random()
    every = [one for one in store.judgements() if one.annotation_id in at_random]
    hashes = hashes_now(run, {one.file_name for one in every})
    kept = [one for one in every if not is_another_image(one.content_hash, hashes.get(one.file_name))]
    outcomes = {box: majority(group) for box, group in groupby(kept, key=lambda one: one.annotation_id)}
    return RandomOutcomes(kept, outcomes, len(every) - len(kept))


def judged_boxes(run_dir: Path, images: Iterable[int] | None = None) -> JudgedBoxes:
    """Read the boxes of a run and the verdicts on those that were drawn at random.

    Of several reviewers of a box the majority counts; where there is none, the box counts for nothing.

    Args:
        run_dir: Run directory.
        images: Only boxes on images with these ids; None = all boxes.

    Raises:
        RunError: The run is not finished.
        InputError: The verdicts are damaged.
    """
    run = Run.open(run_dir, finished=True)
    table = run.read_annotations(["annotation_id", "image_id", "file_name", "category_id", "category", "score"])
    counts = None if images is None else pc.is_in(table["image_id"], value_set=pa.array(list(images), pa.int64()))
    table = table if counts is None else table.filter(counts)
    ids, category, score = box_columns(table)
    inside = set(ids.tolist())
    with open_verdicts(run.path, to_write=False) as store:
        drawn, within = inside.intersection(store.drawn_at_random()), store.precision_within()
        found = outcomes_at_random(run, store, inside)
    kept, outcomes = found.kept, found.outcomes
    decided = found.decided
    order = np.argsort(ids)
    places = order[np.searchsorted(ids, np.array(list(decided), np.int64), sorter=order)]
    verdicts = np.array(list(decided.values()), bool)
    files, signals = table["file_name"].to_pylist(), table
    if takes_signals(files, places):
        signals = read_boxes_with_quality(run)
        signals = signals if counts is None else signals.filter(counts)
    names = dict(zip(category.tolist(), table["category"].to_pylist(), strict=True))
    return JudgedBoxes(
        category, score, places, verdicts, expected_outcomes(signals, files, places, verdicts), names,
        len(outcomes) - len(decided),
        found.changed, len(drawn - outcomes.keys()), kept, within,
    )  # fmt: skip


def estimate_audit(run_dir: Path) -> AuditEstimate:
    """Estimate precision, number of objects and recall of a run from the verdicts on what was drawn at random.

    See `judged_boxes` and `estimate_run_objects`.

    Raises:
        RunError: The run is not finished.
        InputError: The verdicts are damaged.
    """
    boxes = judged_boxes(run_dir)
    run = Run.open(run_dir, finished=True)
    with open_verdicts(run.path, to_write=False) as store:
        objects = estimate_run_objects(run, store)
    precision = estimate_precision(boxes.sample)
    by_class = estimate_per_class(boxes.category, boxes.sample)
    kappa = {f"{one.first}, {one.second}": one.kappa for one in agreements(boxes.verdicts)}
    return AuditEstimate(
        precision, {boxes.names[one]: found for one, found in by_class.items()}, boxes.undecided, boxes.changed,
        boxes.pending, kappa, boxes.within, _is_enough(precision, boxes.within, boxes.pending),
        None if precision is None else verdicts_to_halve(precision),
        objects,
    )  # fmt: skip


def _is_enough(precision: Precision | None, within: float | None, pending: int) -> bool | None:
    if within is None:
        return None
    if precision is None:
        return False
    interval = precision.ci95 if not pending else precision.ci95_any_time
    return interval is not None and (interval[1] - interval[0]) / 2 <= within
