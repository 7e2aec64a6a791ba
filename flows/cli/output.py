"""Print the results of commands, and return the exit codes that go with them."""

import json
import os
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from flows.cli.terminal import err
from mining.redaction import redact_values

SHOWN_REASONS = 3
QUARANTINED = 3


def relative_to_here(text: str) -> str:
    """Return a text with folders below the current one relative to it, as a person would type them."""
    return text.replace(f"{Path.cwd()}{os.sep}", "")


def training_sentences(summary: Any) -> list[str]:
    """Return the sentences that describe a training."""
    value = "" if summary.value is None else f", {summary.metric} {summary.value:.3f} on validation images"
    epochs = "1 epoch" if summary.epochs == 1 else f"{summary.epochs} epochs"
    count = summary.validation_images
    validation = f"{count} further {'image was' if count == 1 else 'images were'} used for validation"
    missing = f", and {summary.missing} listed images are missing" if summary.missing else ""
    return [
        f"Trained {epochs} on {summary.images} images, {summary.classes} classes{value}.",
        f"{validation}{missing}.",
    ]


def print_mine_summary(summary: Any, *, as_json: bool, strict: bool = False) -> int:
    """Print the summary of a run.

    Returns:
        The exit code; for `strict` see `quarantine_code`.
    """
    if as_json:
        print_json(asdict(summary))
    print_notes(summary.notes)
    states = ", ".join(f"{count} {state.replace('_', ' ')}" for state, count in sorted(summary.states.items()))
    err.print(f"{summary.boxes} boxes on {summary.images} images ({states}).")
    print_place_of_boxes(summary.run)
    print_warnings(summary.warnings)
    return quarantine_code(
        summary.quarantined, summary.reasons, f"All reasons are in {summary.run}/quarantine.parquet.", strict=strict
    )


def print_place_of_boxes(run: Path) -> None:
    """Say in which files the boxes of a run are."""
    err.print(f"They are in {run / 'annotations.parquet'}, and as COCO JSON in {run / 'annotations.json'}.")


def quarantine_code(count: int, reasons: list[str], where: str = "", *, strict: bool = False) -> int:
    """Print how many images could not be used, the first reasons, and where to find all of them.

    Args:
        count: Number of images in quarantine.
        reasons: Reasons of the first of them.
        where: Sentence that says where all reasons are.
        strict: Return 3 if there are such images, so that a script can stop.

    Returns:
        The exit code.
    """
    if count:
        err.print(f"{count} image{'s' if count > 1 else ''} could not be used:")
        for reason in reasons[:SHOWN_REASONS]:
            err.print(f"  {reason}")
        if count > SHOWN_REASONS:
            err.print(f"  ... {where}")
    return QUARANTINED if count and strict else 0


def print_notes(notes: Sequence[str]) -> None:
    """Print notes, one per line."""
    for note in notes:
        err.print(f"Note: {note}")


def print_warnings(warnings: Sequence[str]) -> None:
    """Print warnings, one per line."""
    for warning in warnings:
        err.print(f"Warning: {warning}")


def print_json(value: Any) -> None:
    """Print a value as JSON on stdout."""
    print(json.dumps(redact_values(value), indent=2, default=str, ensure_ascii=False))
