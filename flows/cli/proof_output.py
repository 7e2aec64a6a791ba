"""What `boxmine prove` prints."""

from pathlib import Path

from flows.cli.output import print_notes
from flows.cli.terminal import err, print_table
from mining.proof.figures import Estimate
from mining.proof.job import ProofResult
from mining.proof.page import PAGE_FILE


def print_proof(result: ProofResult, out: Path) -> None:
    """Print the figures of the detectors and of the label budget, and where the page is."""
    rows = [
        (arm, str(result.boxes[arm]), _percent(one), _percent(result.ap[arm]), _share(result.share_of_true.get(arm)))
        for arm, one in result.ap50.items()
    ]
    headings = ("boxes", "number", "AP50", "AP", "of the AP50 from true boxes")
    kept = len(headings) if result.share_of_true else len(headings) - 1
    print_table([row[:kept] for row in rows], headings[:kept])
    if result.budget:
        points = [
            (str(one.true_boxes), _percent(one.alone), _percent(one.with_mined), _percent(one.gain))
            for one in result.budget
        ]
        print_table(points, ("true boxes", "AP50 alone", "AP50 with mined boxes", "difference"))
    print_notes(result.notes)
    for arm, one in result.over_blind.items():
        err.print(f"Mined boxes instead of {arm} ones: AP50 {100 * one.value:+.1f} points {_interval(one)}.")
    if result.worth is not None:
        err.print(result.worth.text, soft_wrap=True)
    err.print(f"The page is {out / PAGE_FILE}.", soft_wrap=True)


def _percent(one: Estimate) -> str:
    return f"{100 * one.value:.1f} % {_interval(one)}"


def _share(one: Estimate | None) -> str:
    return "" if one is None else f"{100 * one.value:.0f} % (95 %: {100 * one.ci95[0]:.0f} to {100 * one.ci95[1]:.0f})"


def _interval(one: Estimate) -> str:
    return f"(95 %: {100 * one.ci95[0]:.1f} to {100 * one.ci95[1]:.1f})"
