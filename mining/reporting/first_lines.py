"""The first lines of a report: what was mined, how good it is, and what to do next."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from mining.evaluation.scores import Scores
from mining.quality.audit import AuditEstimate, estimate_audit
from mining.quality.verdicts import VERDICTS_FILE
from mining.reporting.score_rows import format_cut, format_share, recommended_cut, verdict
from mining.runs.run import Run

_ENOUGH = 30  # verdicts from which on a precision is worth a promise


class FirstLines(NamedTuple):
    """Three sentences, and the command of the last one, which may be empty."""

    mined: str
    quality: str
    next_step: str
    command: str = ""


def audit_of(run: Run) -> AuditEstimate | None:
    """Return what people's verdicts say of a run, None if nobody gave any.

    Raises:
        InputError: The verdicts are damaged.
    """
    if not (run.path / VERDICTS_FILE).is_file():
        return None
    found = estimate_audit(run.path)
    has_objects = found.objects is not None and found.objects.objects is not None
    return found if found.precision is not None or has_objects else None


def first_lines(
    record: Mapping[str, Any], classes: int, scores: Scores | None, audit: AuditEstimate | None
) -> FirstLines:
    """Build the first lines of a report.

    Args:
        record: The content of run.json.
        classes: Number of classes with boxes.
        scores: The scores, if the run was scored.
        audit: What verdicts say, if there are any.
    """
    counts = record["counts"]
    with_box = counts["states"].get("labelled", 0)
    mined = (
        f"{_count(counts['boxes'], 'box', 'boxes')} of {_count(classes, 'class', 'classes')} on {with_box:,} of "
        f"{_count(counts['images'], 'image', 'images')}."
    )
    return FirstLines(mined, " ".join(_quality(record, scores, audit)), *_next_step(counts["boxes"], scores, audit))


def _quality(record: Mapping[str, Any], scores: Scores | None, audit: AuditEstimate | None) -> list[str]:
    sentences = []
    if audit is not None and (precision := audit.precision) is not None:
        share = _share(precision.value, precision.ci95)
        sentences.append(
            f"{share} of the boxes are correct, by {_count(precision.verdicts, 'verdict', 'verdicts')} of people on "
            "boxes drawn at random."
        )
    objects = None if audit is None or audit.objects is None else audit.objects.objects
    if objects is not None and objects.recall is not None and objects.recall_ci95 is not None:
        share = _share(objects.recall, objects.recall_ci95)
        sentences.append(
            f"{share} of the objects were found, by {_count(objects.images, 'image', 'images')} that people looked at "
            "whole."
        )
    if scores is not None:
        sentences.append(f"{verdict(scores)} The ground truth is {scores['truth']['file']}.")
    if not sentences and (of_version := record.get("precision")):  # of a version of a label store
        share = _share(of_version["value"], of_version["ci95"])
        sentences.append(f"{share} of the boxes are correct as mined, by verdicts of people.")
    return sentences or ["Nobody has looked yet: it is not known how many boxes are correct."]


def _next_step(boxes: int, scores: Scores | None, audit: AuditEstimate | None) -> tuple[str, str]:
    if not boxes:
        return "Find out why there is no box, from the images by outcome below.", ""
    if audit is not None and audit.precision is not None and audit.precision.verdicts >= _ENOUGH:
        low = int(100 * audit.precision.ci95[0])
        return (
            "Export boxes of a precision that is promised; `boxmine audit apply RUN` writes people's corrections.",
            f"boxmine export RUN --format coco --min-precision {max(5, low - low % 5) / 100:g} --out DIR",
        )
    cut = None if scores is None else recommended_cut(scores)
    if scores is not None and cut is not None:
        option = "" if cut["boxes"] == scores["boxes"] else f" --min-score {format_cut(cut['min_score'])}"
        return (
            f"Export the boxes. Of the {scores['boxes']:,} scored ones this keeps {cut['boxes']:,}, at precision "
            f"{format_share(cut['precision'])} and recall {format_share(cut['recall'])}.",
            f"boxmine export RUN --format coco{option} --out DIR",
        )
    return (
        "Judge some boxes in a browser: 200 say how many of all boxes are correct, within some 6 points.",
        "boxmine audit RUN",
    )


def _share(value: float, ci95: Sequence[float]) -> str:
    return f"{100 * value:.1f} % (95 %: {100 * ci95[0]:.1f} to {100 * ci95[1]:.1f})"


def _count(number: int, one: str, several: str) -> str:
    return f"{number:,} {one if number == 1 else several}"
