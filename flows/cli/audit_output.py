"""Print the results of the audit commands."""

from typing import TYPE_CHECKING, Literal

from flows.cli.output import print_notes
from flows.cli.terminal import err, print_table

if TYPE_CHECKING:
    from pathlib import Path

    from mining.quality.audit import AuditEstimate
    from mining.quality.audit_calibration import CalibrationSummary
    from mining.quality.calibration import CalibrationFigures
    from mining.quality.corrected_run import ApplySummary
    from mining.quality.estimates import Precision
    from mining.quality.image_outcomes import ObjectAudit
    from mining.quality.object_estimates import Objects
    from mining.quality.planning import PlanSummary
    from mining.quality.recording import CarrySummary, RecordSummary

_MEANS: tuple[Literal["predicted", "observed"], ...] = ("predicted", "observed")


def print_address(address: str) -> None:
    """Print where the review application is."""
    err.print(f"The review is at {address}", soft_wrap=True)
    err.print("Ctrl-C ends it; every verdict is on disk as soon as it is given.")


def print_plan(summary: "PlanSummary", pictures: "Path | None") -> None:
    """Print what a plan asks for."""
    drawn = []
    if summary.random:
        more = f" and {summary.suspicious} doubtful ones" if summary.suspicious else ""
        before = f", {summary.drawn_before} were drawn before" if summary.drawn_before else ""
        drawn.append(f"{summary.random} of {summary.boxes} boxes drawn at random{more}{before}")
    if summary.images:
        before = f", {summary.images_before} were drawn before" if summary.images_before else ""
        drawn.append(f"{summary.images} of {summary.of_images} images drawn to be looked at whole{before}")
    err.print(f"{'; '.join(drawn)}: {summary.out}")
    if summary.pictures is not None and pictures is not None:
        err.print(f"{summary.pictures} pictures: {pictures / 'index.html'}")
    if summary.filled_in:
        err.print(f"{summary.filled_in} verdicts are known already, and filled in: check them.")
    err.print("Fill in the column verdict, then run `boxmine audit record`.")
    if summary.images:
        err.print(
            "An image's own row follows those of its boxes: copy it for each object without a correct box, with its "
            "class and the verdict missed; write complete into the row itself."
        )


def print_record(summary: "RecordSummary") -> None:
    """Print what was recorded."""
    print_notes(summary.notes)
    images = f", {summary.images} images were looked at whole" if summary.images else ""
    err.print(f"{summary.recorded} verdicts recorded, {summary.repeated} were recorded before{images}.")
    if summary.changed:
        err.print(f"Warning: {summary.changed} are not recorded, because their images changed since the run.")
    if summary.pending:
        err.print(f"{summary.pending} boxes of the run's plans have no verdict yet.")
    if summary.pending_images:
        err.print(f"{summary.pending_images} images of the run's plans were not looked at whole yet.")


def print_carried(summary: "CarrySummary") -> None:
    """Print what was carried over from another run."""
    images = f", {summary.images} images were looked at whole" if summary.images else ""
    err.print(f"{summary.recorded} verdicts carried over{images}. Plans that draw these boxes have them filled in.")
    if summary.known:
        err.print(f"{summary.known} boxes have a later verdict of the same reviewer, which counts.")
    if summary.unmatched:
        err.print(f"{summary.unmatched} verdicts are on boxes that no box of this run is like.")
    if summary.other_images:
        err.print(f"{summary.other_images} judged images are not in this run, or their files changed.")


def print_apply(summary: "ApplySummary") -> None:
    """Print how many boxes of a run were rejected, corrected, added and confirmed."""
    print_notes(summary.notes)
    err.print(
        f"{summary.rejected} boxes rejected, {summary.corrected} corrected, {summary.added} added, "
        f"{summary.confirmed} confirmed: {summary.boxes} boxes in {summary.out}"
    )
    if summary.known_images:
        err.print(
            f"The objects of {summary.known_images} images are all known: --truth {summary.out} scores boxes by them."
        )
    if summary.changed:
        err.print(f"Warning: {summary.changed} verdicts count for nothing, because their images changed since.")


def print_estimate(found: "AuditEstimate") -> None:
    """Print precision, number of objects and recall, of all and by class, and how many more verdicts would help."""
    if found.precision is not None:
        rows = [("all", *_cells(found.precision)), *((name, *_cells(one)) for name, one in found.per_class.items())]
        print_table(rows, ("class", "precision", "95 % interval", "verdicts", "boxes"))
    elif found.objects is None:
        err.print("Too few verdicts for an estimate; record more with `boxmine audit record`.")
        return
    for sentence in _remarks(found):
        err.print(sentence)
    if found.objects is not None:
        _print_objects(found.objects)


def _print_objects(audit: "ObjectAudit") -> None:
    """Print the number of objects and the share of them that was found."""
    if audit.objects is None:
        err.print("Too few images were looked at whole for the number of objects; at least 5 are needed.")
    else:
        named = [("all", audit.objects), *audit.per_class.items()]
        print_table(
            [(name, *_object_cells(one)) for name, one in named],
            ("class", "objects", "95 % interval", "recall", "95 % interval"),
        )
        err.print(f"From {audit.objects.images} of {audit.objects.of_images} images, looked at whole.")
    if audit.pending:
        err.print(f"{audit.pending} images that were drawn have not been looked at yet.")
    if audit.changed:
        err.print(f"Warning: {audit.changed} images count for nothing, because their files changed since.")


def _object_cells(found: "Objects | None") -> tuple[str, str, str, str]:
    if found is None:
        return "-", "", "-", ""
    low, high = found.ci95
    number = f"{found.value:.0f}", f"{low:.0f} to {high:.0f}"
    if found.recall is None or found.recall_ci95 is None:
        return *number, "-", ""
    low, high = (100 * side for side in found.recall_ci95)
    return *number, f"{100 * found.recall:.1f} %", f"{low:.1f} to {high:.1f} %"


def print_calibration(found: "CalibrationSummary") -> None:
    """Print how well the probabilities are calibrated, or why there are none."""
    figures = found.calibration.figures
    if figures is None:
        err.print(f"uncalibrated: {found.reason}. Nothing was stored.")
        return
    if found.warning:
        err.print(f"Warning: {found.warning}")
    if found.is_carried:
        err.print("The figures are of the run that the calibration is from.")
    rows = [
        (
            f"{one['low']:.1f} to {one['high']:.1f}",
            str(one["boxes"]),
            f"{one['predicted']:.2f}",
            f"{one['observed']:.2f}",
        )
        for one in figures["reliability"]
    ]
    print_table(rows, ("p_correct", "judged boxes", "mean p_correct", "share correct"))
    for sentence in _calibration_remarks(figures):
        err.print(sentence)


def _calibration_remarks(figures: "CalibrationFigures") -> list[str]:
    sentences = [
        f"{figures['boxes']} judged boxes on {figures['images']} images, {100 * figures['correct']:.1f} % correct; "
        "each is predicted without what is known of its image.",
        f"Expected calibration error {figures['ece']:.3f}; by chance alone {figures['ece_by_chance']:.3f}.",
    ]
    if figures["laece"] is not None:
        sentences.append(f"Localization-aware calibration error of expected_iou {figures['laece']:.3f}.")
    if figures["auroc"] is not None and figures["auroc_of_score"] is not None:
        sentences.append(
            f"A correct box ranks before a wrong one in {100 * figures['auroc']:.0f} % of pairs by p_correct, in "
            f"{100 * figures['auroc_of_score']:.0f} % by score."
        )
    return sentences


def _cells(found: "Precision | None") -> tuple[str, str, str, str]:
    if found is None:
        return "-", "too few verdicts", "", ""
    low, high = found.ci95
    return f"{100 * found.value:.1f} %", f"{100 * low:.1f} to {100 * high:.1f} %", str(found.verdicts), str(found.boxes)


def _remarks(found: "AuditEstimate") -> list[str]:
    sentences = []
    if found.precision is not None and found.precision.ci95_any_time is not None:
        low, high = (100 * side for side in found.precision.ci95_any_time)
        sentences.append(f"If you look often and stop when it is narrow enough: {low:.1f} to {high:.1f} %.")
    if found.enough is not None and found.within is not None:
        state = "reached: you may stop" if found.enough else "not reached yet"
        sentences.append(f"Half width of {100 * found.within:g} points: {state}.")
    if found.to_halve:
        sentences.append(f"{found.to_halve} more verdicts would halve the interval.")
    if found.pending:
        sentences.append(f"{found.pending} boxes that were drawn have no verdict yet.")
    if found.unsure:
        sentences.append(f"{found.unsure} boxes count for nothing: unsure, or as many reviewers for as against.")
    if found.changed:
        sentences.append(f"Warning: {found.changed} verdicts count for nothing, because their images changed since.")
    sentences += [f"Agreement of {pair} (Cohen's kappa): {kappa:.2f}." for pair, kappa in found.kappa.items()]
    return sentences
