"""The README of an export: what its boxes are, for a person who finds the folder later."""

from collections.abc import Sequence
from pathlib import Path

from mining.corpus.splits import TRAIN
from mining.export.base import Written
from mining.export.exported_set import ExportedSet


def write_readme(path: Path, exported: ExportedSet, written: Written, notes: Sequence[str]) -> None:
    """Write the number of images and boxes, the source of the boxes, and the notes."""
    rows = [f"| {part} | {exported.images_of[part]} | {_source(exported, part)} |" for part in exported.parts]
    lines = [
        f"# Pseudo-annotations of the run {exported.run.name}",
        "",
        f"{written.boxes} boxes on {written.images} images, exported by boxmine. Mined boxes were drawn by a weakly "
        "supervised localizer, not by people.",
        "",
        "| part | images | boxes |",
        "|---|---|---|",
        *rows,
        "",
        *(f"- {note}" for note in notes),
    ]
    path.write_text("\n".join(lines).rstrip() + "\n", encoding="utf-8")


def _source(exported: ExportedSet, part: str) -> str:
    return "mined" if exported.truth is None or part == TRAIN else "true"
