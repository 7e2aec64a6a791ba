"""The precision of the new boxes of a version, from verdicts of people in the runs that the boxes come from."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from mining.errors import BoxmineError
from mining.label_store.diff import SnapshotDiff
from mining.quality.audit import judged_boxes
from mining.quality.combined import RunPrecision, combine_runs
from mining.quality.estimates import estimate_precision
from mining.quality.verdicts import VERDICTS_FILE
from mining.runs.run import Run


@dataclass(frozen=True)
class RunVerdicts:
    """The verdicts on the boxes that a version takes from one run.

    Attributes:
        run: Name of the run.
        boxes: Number of these boxes.
        boxes_of_run: Number of all boxes of the run.
        verdicts: Boxes with a verdict that counts.
        correct: How many of them are correct.
        value: Estimated precision, 0-1; None with too few verdicts.
        ci95: Its 95 % interval: one that is valid at every look while drawn boxes have no verdict; None without one.
        pending: Boxes drawn at random that nobody has judged.
        undecided: Boxes that count for nothing because the verdict is unsure, or the reviewers disagree evenly.
        changed: Verdicts that count for nothing because the image changed since.
    """

    run: str
    boxes: int
    boxes_of_run: int
    verdicts: int = 0
    correct: int = 0
    value: float | None = None
    ci95: tuple[float, float] | None = None
    pending: int = 0
    undecided: int = 0
    changed: int = 0

    @property
    def is_drawn(self) -> bool:
        """Whether any of the boxes was drawn for people to judge."""
        return bool(self.verdicts or self.pending or self.undecided)


@dataclass(frozen=True)
class VersionPrecision:
    """The precision of the new boxes of a version.

    Attributes:
        value: Of the boxes of runs with an estimate, weighted by their boxes, 0-1; None without any.
        ci95: 95 % interval for all new boxes; those of runs without an interval count as wrong at the lower end and as
            correct at the upper end.
        verdicts: Number of verdicts that it is from.
        boxes: Number of the new boxes that were mined.
        unknown: How many of them are of runs without an interval.
        runs: The runs that the boxes come from.
    """

    value: float | None
    ci95: tuple[float, float]
    verdicts: int
    boxes: int
    unknown: int
    runs: tuple[RunVerdicts, ...]


def precision_of_next_version(diff: SnapshotDiff, runs: Sequence[Run], *, always: bool) -> VersionPrecision | None:
    """Estimate the precision of the boxes that the next version takes from runs.

    Args:
        diff: The comparison that the version is planned from.
        runs: The runs, by their number in the comparison.
        always: Also if boxes of none of the runs were drawn for people to judge.

    Returns:
        None if there is nothing to estimate.
    """
    images = {run: diff.images_of(number) for number, run in enumerate(runs)}
    used = {run: own for run, own in images.items() if own}
    return measure_precision(used) if used and (always or any(map(has_verdicts, used))) else None


def precision_record(found: VersionPrecision | None) -> dict[str, Any] | None:
    """Return the figures as JSON values; None where no verdict counts."""
    return None if found is None or found.value is None else asdict(found)


def precision_so_far(record: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the precision of the new boxes of a version, by the verdicts recorded so far.

    Args:
        record: Record of a corpus in the version.

    Returns:
        The figures that were recorded with the version, if its runs are not on this machine or have no more verdicts.
    """
    recorded: dict[str, Any] | None = record.get("precision")
    runs = [Run(Path(record["runs"]) / name) for name in record.get("new_runs", [])]
    if not any(map(has_verdicts, runs)):
        return recorded
    try:
        found = measure_precision({run: run.read_corpus(["image_id"])["image_id"].to_pylist() for run in runs})
    except BoxmineError:  # a damaged run matters to its own commands
        return recorded
    is_news = recorded is None or found.verdicts > recorded["verdicts"]
    return precision_record(found) if is_news else recorded


def measure_precision(runs: Mapping[Run, Sequence[int]]) -> VersionPrecision:
    """Estimate the precision of the boxes that a version takes from runs.

    Args:
        runs: For each run the ids of the images that the version takes from it.

    Raises:
        InputError: The verdicts of a run are damaged.
        RunError: A table of a run is missing or damaged.
    """
    parts = [_measure_run(run, images) for run, images in runs.items()]
    found = combine_runs([part for part, _ in parts])
    verdicts = tuple(one for _, one in parts)
    return VersionPrecision(found.value, found.ci95, found.verdicts, found.boxes, found.unknown, verdicts)


def has_verdicts(run: Run) -> bool:
    """Whether boxes of a run were drawn for people to judge."""
    return (run.path / VERDICTS_FILE).is_file()


def _measure_run(run: Run, images: Sequence[int]) -> tuple[RunPrecision, RunVerdicts]:
    if not has_verdicts(run):
        owner = run.read_annotations(["image_id"])["image_id"]
        boxes = pc.sum(pc.is_in(owner, value_set=pa.array(images, pa.int64()))).as_py() or 0
        return RunPrecision(boxes, None), RunVerdicts(run.path.name, boxes, len(owner))
    judged = judged_boxes(run.path, images)
    precision = estimate_precision(judged.sample)
    part = RunPrecision(len(judged.score), precision, judged.pending)
    return part, RunVerdicts(
        run.path.name, part.boxes, run.record["counts"]["boxes"], len(judged.judged), int(judged.is_correct.sum()),
        None if precision is None else precision.value, part.interval, judged.pending, judged.undecided, judged.changed,
    )  # fmt: skip
