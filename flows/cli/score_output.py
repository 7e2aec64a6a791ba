"""Scores and comparisons on the terminal."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from flows.cli.output import print_notes, print_warnings
from flows.cli.terminal import err, print_table

if TYPE_CHECKING:
    from mining.evaluation.scores import Scores


def print_scores(scores: "Scores", run: Path, *, show_all: bool = False) -> None:
    """Print the scores of a run.

    Args:
        scores: Content of scores.json.
        run: Run directory, for the commands of the next step.
        show_all: Print every figure rather than the five most important ones.
    """
    from mining.reporting.score_rows import (
        CUT_HEADINGS,
        HEADINGS,
        cut_rows,
        headline_rows,
        map_rows,
        score_rows,
        verdict,
    )

    rows = score_rows(scores) if show_all else [*headline_rows(scores), *map_rows(scores.get("maps"))]
    print_table(rows, HEADINGS)
    if cuts := cut_rows(scores):
        print()
        print_table(cuts, CUT_HEADINGS)
    print_notes(scores["notes"])
    print_warnings(scores.get("warnings", []))
    err.print(verdict(scores))
    err.print(next_step(scores, run))
    if not show_all:
        err.print("All figures: add --all to `boxmine score`, or see scores.json.")


def next_step(scores: "Scores", run: Path) -> str:
    """Return what to do with the boxes, with the command for it."""
    from mining.reporting.score_rows import format_cut, format_share, recommended_cut

    if threshold := clearly_better_threshold(scores):
        return (
            f"Next: mine again at threshold {threshold:g}, which is clearly better (cross-validated): add "
            f"`--thresholds-from {run}` to the `boxmine mine` command, with another --out."
        )
    cut = recommended_cut(scores)
    if cut is None:
        return f"Next: look at the boxes with `boxmine report {run}`."
    option = "" if cut["boxes"] == scores["boxes"] else f" --min-score {format_cut(cut['min_score'])}"
    return (
        f"Next: `boxmine export {run} --format coco{option} --out DIR` keeps {cut['boxes']:,} of {scores['boxes']:,} "
        f"boxes at precision {format_share(cut['precision'])} and recall {format_share(cut['recall'])}, the best "
        "balance (F1) in the table."
    )


def clearly_better_threshold(scores: "Scores") -> float | None:
    """Return the cross-validated threshold where it is clearly better than the mined one."""
    thresholds = scores.get("thresholds")
    chosen = None if thresholds is None else thresholds["chosen"]
    interval = None if chosen is None or "over_mined" not in chosen else chosen["over_mined"]["ci95"]
    if chosen is None or interval is None or interval[0] <= 0:
        return None
    return chosen.get("threshold")


def print_comparison(summary: dict[str, Any]) -> None:
    """Print what changed from one run to another."""
    from mining.reporting.score_rows import HEADINGS, comparison_rows

    print_table(comparison_rows(summary), HEADINGS)
