"""Print the results of the commands of label stores and exports."""

import shlex
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from flows.cli.output import print_json, print_notes, print_warnings, quarantine_code, relative_to_here
from flows.cli.terminal import err, print_table

STAGED = 5  # exit code


def print_label_summary(summary: Any, recipe: Path, *, as_json: bool, strict: bool = False) -> int:
    """Print a LabelSummary of a recipe; return the exit code (strict: see `quarantine_code`)."""
    from mining.label_store.summary_text import GATE_HEADINGS, gate_rows, summary_sentences

    if as_json:
        print_json(asdict(summary))
    else:
        print_notes(summary.notes)
        print_warnings(summary.warnings)
        if summary.gates:
            print_table(gate_rows(summary.gates), GATE_HEADINGS)
    for sentence in summary_sentences(summary):
        err.print(sentence)
    for step in summary.steps:
        err.print(relative_to_here(step.replace("RECIPE", shlex.quote(str(recipe)))))
    if summary.state == "staged":
        return STAGED
    where = "All reasons are in the store's column `reason`."
    return quarantine_code(summary.quarantined, summary.reasons, where, strict=strict)


def print_cleanup(leftovers: Sequence[Any], notes: Sequence[str], *, dry_run: bool, as_json: bool) -> None:
    """Print what `boxmine clean` deleted, or would delete."""
    if as_json:
        print_json([asdict(leftover) for leftover in leftovers])
    for leftover in leftovers:
        err.print(f"{leftover.path} ({leftover.why}, {leftover.size / 1e6:.1f} MB)")
    print_notes(notes)
    size = sum(leftover.size for leftover in leftovers) / 1e6
    err.print(f"{len(leftovers)} {'would be' if dry_run else 'were'} deleted, {size:.1f} MB.")


def print_export(summary: Any, out: Path) -> None:
    """Print an ExportSummary; None for a version that was written as a run directory."""
    if summary is None:
        err.print(f"The version is in {out}.")
        return
    print_notes(summary.notes)
    if not summary.boxes:
        err.print("Warning: no box was exported; a detector cannot be trained on this.")
    dropped = f" ({summary.dropped_by_score} with a lower score left out)" if summary.dropped_by_score else ""
    err.print(f"{summary.boxes} boxes on {summary.images} images{dropped} are in {summary.out}.")
