"""Export a finished run as a dataset that other tools train on, completely or not at all."""

import os
from dataclasses import dataclass, field
from pathlib import Path

from mining.corpus.image_root import check_output_outside_images
from mining.corpus.near_duplicates import Progress
from mining.errors import InputError, did_you_mean
from mining.export.base import Exporter, ExportOptions
from mining.export.coco import export_coco
from mining.export.croissant import write_croissant
from mining.export.cvat import export_cvat
from mining.export.dataset_card import write_card, write_review_notes
from mining.export.exported_set import exported_set
from mining.export.hugging_face import export_hugging_face
from mining.export.label_studio import export_label_studio
from mining.export.val_truth import ValTruth
from mining.export.voc import export_voc
from mining.export.yolo import export_yolo
from mining.quality.delivery import subset_of_run
from mining.quality.plans import planned_images
from mining.runs.reading import boxes_below, iter_images, open_run
from mining.runs.run import Run
from mining.storage.folders import atomic_folder, refuse_occupied_folder

EXPORTERS: dict[str, Exporter] = {
    "coco": export_coco,
    "yolo": export_yolo,
    "voc": export_voc,
    "labelstudio": export_label_studio,
    "cvat": export_cvat,
    "hf": export_hugging_face,
}
README = "README.md"
FOR_REVIEW = ("labelstudio", "cvat")  # formats for people who check the boxes, not for training


@dataclass(frozen=True)
class ExportSummary:
    """The result of an export.

    Attributes:
        format: A key of EXPORTERS.
        images: Number of images.
        boxes: Number of boxes.
        dropped_by_score: Number of boxes of the run whose score is below `min_score`.
        out: The folder.
        notes: Remarks for a person, which are in the export's README too.
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
    min_precision: float | None = None,
    copy: bool = False,
    val_share: float = 0.1,
    seed: int = 0,
    include_empty: bool = False,
    val_truth: Path | None = None,
    used_classes: bool = False,
    plan: Path | None = None,
    license: str | None = None,
    near_duplicates: bool = True,
    progress: Progress = lambda done, total: None,
) -> ExportSummary:
    """Write the boxes of a finished run and its images in another tool's format.

    Args:
        run_dir: The run directory.
        format: A key of EXPORTERS; each exporter's docstring describes its layout.
        out: A new or empty folder. It is filled completely or not at all.
        min_score: Boxes with a lower score are dropped; in [0, 1].
        min_precision: Instead of min_score: keep the largest subset of the best-scored boxes whose precision is at
            least this, with 95 % confidence, by the verdicts of `boxmine audit`.
        copy: Copy the images; otherwise they are hard-linked if the disk allows it (then do not edit them in place).
        val_share: Share of images for validation if the corpus has no splits; copies of an image are in one part.
        seed: Seed of that split.
        include_empty: Also export images without a box that are not known to be empty; they teach a detector that
            whatever they show is background.
        val_truth: Ground truth (COCO JSON, VOC XML, CUB lists) whose boxes validation and test images get instead of
            mined ones; images that it does not list are left out of these parts.
        used_classes: List only the classes that have a box. COCO's category ids stay those of the model; YOLO's class
            numbers are always consecutive, and so change.
        plan: CSV of `boxmine audit plan`: export its images only, with or without a box.
        license: Name of the licence of the images, for the dataset card and croissant.json.
        near_duplicates: If there are validation images, look for near-duplicates, and keep each group of them in one
            part.
        progress: Called with the number of images that were searched for near-duplicates, and their total.

    Raises:
        InputError: The format is unknown, a value is out of range, `out` is not empty, or no subset has the precision.
        RunError: `run_dir` is not a finished run, or its images are missing or have changed.
        ScoringError: The ground truth cannot be read.
        StorageError: The disk refuses.
    """
    if format not in EXPORTERS:
        raise InputError(f"Unknown format {format!r}: {did_you_mean(format, EXPORTERS)}")
    promise: tuple[str, ...] = ()
    if min_precision is not None:
        if min_score:
            raise InputError("Give min_score or min_precision, not both.")
        min_score, promise = _cut_for(Path(run_dir), min_precision)
    is_for_review = format in FOR_REVIEW
    if is_for_review and val_truth is not None:
        raise InputError(f"--val-truth is for training sets; {format} has the boxes of the run only. Leave it out.")
    val_share = 0.0 if is_for_review else val_share
    options = ExportOptions(min_score, copy, val_share, seed, include_empty, val_truth, used_classes, license)
    run = open_run(Path(run_dir))
    out = Path(os.path.abspath(out))
    refuse_occupied_folder(out)
    check_output_outside_images(out, run.image_root)
    only = None if plan is None else _images_of_plan(Path(plan), run)
    exported = exported_set(
        run, min_score=min_score, include_empty=include_empty, val_share=val_share, seed=seed,
        truth=None if val_truth is None else ValTruth(Path(val_truth), run), used_classes=used_classes,
        only=only, near_duplicates=near_duplicates and not is_for_review, progress=progress,
    )  # fmt: skip
    with atomic_folder(out) as temporary:
        written = EXPORTERS[format](exported, temporary, options)
        notes = (*(exported.review_notes() if is_for_review else exported.notes()), *written.notes)
        if is_for_review:
            write_review_notes(temporary / README, exported, written, (*promise, *notes))
        else:
            write_card(
                temporary / README, exported, written, options, notes,
                min_precision=min_precision, promise=" ".join(promise),
            )  # fmt: skip
            write_croissant(temporary, exported, written, options)
    dropped = boxes_below(run.annotations, min_score)
    notes = (*promise, *notes, *exported.near_duplicate_notes())
    return ExportSummary(format, written.images, written.boxes, dropped, out, notes)


def _images_of_plan(plan: Path, run: Run) -> frozenset[str]:
    """The images of a plan; InputError if the run has none of them."""
    names = planned_images(plan)
    if not any(image.file_name in names for image in iter_images(run.corpus)):
        raise InputError(f"The run {run.path} has no image of the plan {plan}. Give the run that it was drawn from.")
    return names


def _cut_for(run_dir: Path, min_precision: float) -> tuple[float, tuple[str, ...]]:
    """The minimum score that promises a precision, and a note that says so."""
    subset = subset_of_run(run_dir, min_precision)
    found = subset.precision
    return subset.min_score, (
        f"The {subset.boxes} boxes that score {subset.min_score:.3g} or more have a precision of at least "
        f"{min_precision:g} with 95 % confidence: {found.value:.3f} by {found.verdicts} verdicts.",
    )
