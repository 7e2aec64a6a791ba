"""A finished run turned into a dataset that other tools train on: complete, or not there."""

import os
from dataclasses import dataclass, field
from pathlib import Path

from mining.corpus.image_root import check_output_outside_images
from mining.errors import InputError, did_you_mean
from mining.export.base import Exporter, ExportOptions
from mining.export.coco import export_coco
from mining.export.dataset_card import write_readme
from mining.export.exported_set import exported_set
from mining.export.val_truth import ValTruth
from mining.export.voc import export_voc
from mining.export.yolo import export_yolo
from mining.runs.reading import FinishedRun, boxes_below, open_run
from mining.storage.folders import atomic_folder

EXPORTERS: dict[str, Exporter] = {"coco": export_coco, "yolo": export_yolo, "voc": export_voc}


@dataclass(frozen=True)
class ExportSummary:
    """What an export holds.

    images, boxes: how many were written.
    dropped_by_score: boxes of the run that scored below the cut.
    notes: sentences for a person, which stand in the export's README too.
    """

    format: str
    images: int
    boxes: int
    dropped_by_score: int
    out: Path
    notes: tuple[str, ...] = field(default=(), compare=False)


def export(
    run_dir: Path,
    format: str,
    out: Path,
    *,
    min_score: float = 0.0,
    copy: bool = False,
    val_share: float = 0.1,
    seed: int = 0,
    include_empty: bool = False,
    val_truth: Path | None = None,
) -> ExportSummary:
    """Write the boxes of a finished run, and its images, as a dataset in another tool's format.

    format: a key of EXPORTERS; each exporter's docstring tells its layout.
    out: a folder that does not exist yet or is empty. It appears complete or not at all.
    min_score: in [0, 1]; boxes below it are dropped.
    copy: False links the images where the disk allows (no room taken; do not edit them in place), True copies them.
    val_share, seed: of the split into train and val, where the corpus has none. Copies of one photo are in one part.
    val_truth: true boxes (COCO JSON, VOC XML, CUB lists) that validation and test images get instead of mined ones;
    images that it does not list are left out of these parts.
    include_empty: also export images without a box that nobody knows to be empty; they teach a detector that
    whatever they show is background.

    Raises InputError for an unknown format, a value out of range or an `out` that is taken; RunError when `run_dir` is
    no finished run or its images are gone or changed; ScoringError when the truth cannot be read; StorageError when the
    disk refuses.
    """
    if format not in EXPORTERS:
        raise InputError(f"Unknown format {format!r}: {did_you_mean(format, EXPORTERS)}")
    options = ExportOptions(min_score, copy, val_share, seed, include_empty, val_truth)
    run = open_run(Path(run_dir))
    out = Path(os.path.abspath(out))
    _check_free(out, run)
    exported = exported_set(
        run, min_score=min_score, include_empty=include_empty, val_share=val_share, seed=seed,
        truth=None if val_truth is None else ValTruth(Path(val_truth), run),
    )  # fmt: skip
    with atomic_folder(out) as temporary:
        written = EXPORTERS[format](exported, temporary, options)
        notes = (*exported.notes(), *written.notes)
        write_readme(temporary / "README.md", exported, written, notes)
    dropped = boxes_below(run.annotations, min_score)
    return ExportSummary(format, written.images, written.boxes, dropped, out, notes)


def refuse_taken(out: Path) -> None:
    """Raise InputError where `out` is anything but a new or an empty folder."""
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise InputError(f"{out} is there already and not an empty folder. Delete it, or export to another one.")


def _check_free(out: Path, run: FinishedRun) -> None:
    refuse_taken(out)
    check_output_outside_images(out, run.image_root)
