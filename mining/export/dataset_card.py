"""The README of an export: what its boxes are, for a person who finds the folder later."""

from collections.abc import Sequence
from pathlib import Path

from mining.corpus.splits import TRAIN
from mining.export.base import Written
from mining.export.exported_set import ExportedSet
from mining.models.card import IMPORTED


def write_readme(path: Path, exported: ExportedSet, written: Written, notes: Sequence[str]) -> None:
    """Write the number of images and boxes, the source of the boxes, and the notes."""
    rows = [f"| {part} | {exported.images_of[part]} | {_source(exported, part)} |" for part in exported.parts]
    lines = [
        f"# Pseudo-annotations of the run {exported.run.name}",
        "",
        f"{written.boxes} boxes on {written.images} images, exported by boxmine. {_origin(exported)}",
        "",
        "| part | images | boxes |",
        "|---|---|---|",
        *rows,
        "",
        *(f"- {note}" for note in notes),
    ]
    path.write_text(written.readme_head + "\n".join(lines).rstrip() + "\n", encoding="utf-8")


def _origin(exported: ExportedSet) -> str:
    if _are_imported(exported):
        return f"The boxes were imported from {exported.run.record['inputs'].get('boxes', 'another tool')}."
    return "Mined boxes were drawn by a weakly supervised localizer, not by people."


def _source(exported: ExportedSet, part: str) -> str:
    if exported.truth is not None and part != TRAIN:
        return "true"
    return "imported" if _are_imported(exported) else "mined"


def _are_imported(exported: ExportedSet) -> bool:
    return exported.run.card.localizer == IMPORTED
