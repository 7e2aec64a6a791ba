"""True boxes of the images of a run, as a detector learns from them: alone, or instead of the mined ones."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from mining.bootstrap.training_boxes import TrainingBoxes
from mining.corpus.images.decoding import resolve_image_path
from mining.detection.boxed_images import BoxedImage
from mining.evaluation.run_matching import match_run
from mining.evaluation.run_reading import read_run_boxes
from mining.ground_truth.reading import read_ground_truth
from mining.runs.run import Run


@dataclass(frozen=True)
class TrueBoxes:
    """True boxes of images of a run.

    Attributes:
        images: The images that the ground truth lists, with all their boxes of weight 1, in the order of the run's
            corpus. What is difficult, ignore or crowd is neither object nor background.
        notes: Sentences on what could not be used.
    """

    images: list[BoxedImage]
    notes: list[str]

    @property
    def boxes(self) -> int:
        """Number of boxes."""
        return sum(len(image.boxes) for image in self.images)


def read_true_boxes(run: Run, truth: Path) -> TrueBoxes:
    """Read the true boxes of a run's images: of its classes, all others are background.

    Args:
        run: A finished run.
        truth: Ground truth of some of its images, see `mining.evaluation.read_ground_truth`; each image that it lists
            has all its boxes there.

    Raises:
        ScoringError: The ground truth cannot be used, or shares no image or no class with the run.
        RunError: A table of the run is missing or damaged.
    """
    match = match_run(read_ground_truth(truth), read_run_boxes(run.path), run.path)
    boxes = match.truth.boxes
    place_of_class = np.full(len(match.truth.classes), -1, np.int64)
    for place, entry in enumerate(run.card.classes):
        if entry["id"] in match.class_positions:
            place_of_class[match.class_positions[entry["id"]]] = place
    classes = place_of_class[boxes.category]
    images = []
    for row in run.read_corpus(["image_id", "file_name", "content_hash"]).to_pylist():
        if row["image_id"] not in match.image_positions:
            continue
        of_image = boxes.image == match.image_positions[row["image_id"]]
        own, ignored = of_image & boxes.is_countable, of_image & boxes.is_ignored
        images.append(
            BoxedImage(
                path=resolve_image_path(run.image_root, row["file_name"]),
                content_hash=row["content_hash"],
                boxes=boxes.xyxy[own].astype(np.float32),
                classes=classes[own],
                weights=np.ones(own.sum(), np.float32),
                ignored=boxes.xyxy[ignored].astype(np.float32),
            )
        )
    return TrueBoxes(images, match.notes)


def replace_boxes(found: TrainingBoxes, images: Iterable[BoxedImage]) -> TrainingBoxes:
    """Replace the boxes of some images, for example mined ones by true ones; images that are new are added.

    Args:
        found: What a detector would be trained on.
        images: The images with their boxes.
    """
    other = {image.path: image for image in images}
    kept = [other.pop(image.path, image) for image in found.images]
    together = [*kept, *other.values()]
    return replace(found, images=together, boxes=sum(len(image.boxes) for image in together))
