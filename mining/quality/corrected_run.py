"""Write the corrected boxes of a run as a new run directory: the next version of its boxes."""

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mining.corpus.image_root import check_output_outside_images
from mining.errors import InputError
from mining.ground_truth.sources import RUN_TRUTH_FILE
from mining.quality.applying import Corrections, correct_boxes
from mining.quality.review_keys import run_key
from mining.quality.verdicts import VERDICTS_FILE
from mining.runs.changed_run import write_changed_run
from mining.runs.coco_json import write_document
from mining.runs.reading import iter_images
from mining.runs.run import Run
from mining.storage.folders import atomic_folder, refuse_occupied_folder


@dataclass(frozen=True)
class ApplySummary:
    """How many of a run's boxes were changed, and in which way.

    Attributes:
        out: The new run directory.
        boxes: Number of its boxes.
        confirmed: Number of boxes that were found correct and are unchanged.
        rejected: Number of boxes that were removed.
        corrected: Number of boxes that have another place or class.
        added: Number of boxes on objects that were missed.
        changed: Number of verdicts that count for nothing because their image changed since.
        known_images: Number of images whose objects are all known, see truth.json in the new run directory.
        notes: Sentences on what could not be applied.
    """

    out: Path
    boxes: int
    confirmed: int
    rejected: int
    corrected: int
    added: int
    changed: int
    known_images: int
    notes: list[str] = field(default_factory=list)


def apply_verdicts(run_dir: Path, out: Path | None = None) -> ApplySummary:
    """Write the boxes of a run, corrected by the verdicts on them, as a new finished run; see `correct_boxes`.

    The run itself is not changed. The new one has its model, curves and rankings, and truth.json: the objects of the
    images that were looked at whole, in COCO format, which counts as ground truth.

    Args:
        run_dir: A finished run.
        out: The new run directory; a new or empty folder. By default RUN-corrected.

    Raises:
        InputError: The run has no verdict that changes a box or completes an image, the verdicts are damaged, or `out`
            is occupied.
        RunError: The run is not finished, or a table of it is damaged.
        StorageError: The disk refuses.
    """
    run = Run.open(run_dir, finished=True)
    out = Path(os.path.abspath(run.path.with_name(f"{run.path.name}-corrected") if out is None else out))
    refuse_occupied_folder(out)
    check_output_outside_images(out, run.image_root)
    found = correct_boxes(run)
    if found.is_empty and not found.objects:
        raise InputError(
            f"No verdict in {run.path / VERDICTS_FILE} changes a box. Record some with `boxmine audit record`."
        )
    with atomic_folder(out) as temporary:
        _write(run, temporary, out.name, found)
    return ApplySummary(
        out, len(found.annotations), found.confirmed, found.rejected, found.corrected, found.added, found.changed,
        len(found.objects), found.notes,
    )  # fmt: skip


def _write(run: Run, folder: Path, name: str, found: Corrections) -> None:
    new = write_changed_run(
        run,
        folder,
        name=name,
        annotations=found.annotations,
        states=found.states,
        labels=found.labels,
        notes=found.notes,
        description=f"corrected boxes of {run.name}",
        record={
            "corrected": {
                "run": os.path.abspath(run.path), "run_key": run_key(run), "confirmed": found.confirmed,
                "rejected": found.rejected, "corrected": found.corrected, "added": found.added,
            }
        },
    )  # fmt: skip
    classes = [{"id": number, "name": class_name} for number, class_name in run.classes]
    _write_truth(new, found, classes, f"objects that people saw in images of {run.name}")


def _write_truth(new: Run, found: Corrections, classes: list[dict[str, Any]], description: str) -> None:
    """Write the objects of the images that were looked at whole, in COCO format."""
    if not found.objects:
        return
    numbers = {one["name"]: one["id"] for one in classes}
    images = [image for image in iter_images(new.corpus) if image.file_name in found.objects]
    entries = [
        {
            "image_id": image.image_id,
            "category_id": numbers[one.category],
            "bbox": [round(side, 2) for side in one.xywh],
        }
        for image in images
        for one in found.objects[image.file_name]
        if one.xywh is not None and one.category in numbers
    ]
    write_document(
        new.path / RUN_TRUTH_FILE,
        info={"description": description},
        categories=classes,
        images=(
            {"id": image.image_id, "file_name": image.file_name, "width": image.width, "height": image.height}
            for image in images
        ),
        annotations=(
            {"id": number, **entry, "area": round(entry["bbox"][2] * entry["bbox"][3], 2), "iscrowd": 0}
            for number, entry in enumerate(entries, start=1)
        ),
    )
