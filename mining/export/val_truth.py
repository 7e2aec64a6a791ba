"""Ground truth boxes for the validation images of an export."""

from collections import defaultdict
from pathlib import Path

import numpy as np

from mining.corpus.names import normalise_class_name
from mining.errors import InputError
from mining.runs.reading import iter_images
from mining.runs.rows import BoxRow, ImageRow
from mining.runs.run import Run

SOURCE = "truth"


class ValTruth:
    """Ground truth boxes, matched with the images and classes of a run.

    Attributes:
        unlisted: Ids of validation images that the ground truth does not list.
        of_other_size: Ids of validation images that have another size in the ground truth.
    """

    def __init__(self, path: Path, run: Run) -> None:
        """Read ground truth.

        Args:
            path: COCO JSON, folder of VOC XML, or CUB folder.
            run: The run.

        Raises:
            InputError: It shares no class with the run's model.
            ScoringError: It cannot be read.
        """
        from mining.evaluation import read_ground_truth  # importing the readers of all formats takes long
        from mining.evaluation.run_reading import match_images

        self._name = path.name
        truth = read_ground_truth(path)
        ids = {normalise_class_name(name): (number, name) for number, name in run.classes}
        known = [image.file_name for image in iter_images(run.corpus)]
        matched = match_images(truth, known, run.path)
        self._position = {known[row]: place for place, row in enumerate(matched.position.tolist()) if row >= 0}
        self._sizes = truth.sizes
        self._left_out = [name for name in truth.classes if normalise_class_name(name) not in ids]
        self._notes = [*truth.notes, *matched.notes]
        if len(self._left_out) == len(truth.classes):
            raise InputError(
                f"{path} has none of the model's classes: it has {', '.join(truth.classes[:8])}, the model "
                f"{', '.join(name for _, name in run.classes[:8])}. Give ground truth with the same class names."
            )
        self._boxes: dict[int, list[tuple[int, str, bool, list[float]]]] = defaultdict(list)
        boxes = truth.boxes
        columns = (boxes.image.tolist(), boxes.category.tolist(), boxes.is_ignored.tolist(), boxes.xywh.tolist())
        for image, category, is_ignored, xywh in zip(*columns, strict=True):
            identity = ids.get(normalise_class_name(truth.classes[category]))
            if identity is not None:
                self._boxes[image].append((*identity, bool(is_ignored), xywh))
        self.unlisted: set[int] = set()
        self.of_other_size: set[int] = set()

    def lists(self, image: ImageRow) -> bool:
        """Whether the ground truth lists the image."""
        return self._place(image) is not None

    def boxes_of(self, image: ImageRow) -> tuple[BoxRow, ...] | None:
        """Return the image's boxes, clipped to it; None if it is not listed, or is listed with another size."""
        place = self._place(image)
        if place is None:
            self.unlisted.add(image.image_id)
            return None
        size, decoded = tuple(self._sizes[place]), (image.width, image.height)
        # exchanged sides: the tool that wrote the file ignored the EXIF orientation, but only in the sizes
        if np.isfinite(size).all() and decoded not in (size, size[::-1]):
            self.of_other_size.add(image.image_id)
            return None
        rows = (_row(image, *box) for box in self._boxes.get(place, ()))
        return tuple(row for row in rows if row.x1 > row.x0 and row.y1 > row.y0)

    def _place(self, image: ImageRow) -> int | None:
        return self._position.get(image.file_name)

    def notes(self, images: int) -> list[str]:
        """Return remarks on what was used and what was not; `images` is the number of images that have true boxes."""
        notes = [f"{validation_images_have(images)} the true boxes of {self._name}.", *self._notes]
        if self.unlisted:
            notes.append(f"Validation images that are not in {self._name} are left out: {len(self.unlisted)}.")
        if self.of_other_size:
            notes.append(
                f"{validation_images_have(len(self.of_other_size))} another size in {self._name} than in the run and "
                "are left out."
            )
        if self._left_out:
            notes.append(
                f"Classes of {self._name} that the model does not know are left out: {', '.join(self._left_out[:12])}."
            )
        return notes


def validation_images_have(number: int) -> str:
    """Return the beginning of a sentence about a number of validation images."""
    return f"{number} validation image has" if number == 1 else f"{number} validation images have"


def _row(image: ImageRow, category_id: int, category: str, is_ignored: bool, xywh: list[float]) -> BoxRow:
    x, y, w, h = xywh
    x0, x1 = (round(min(max(edge, 0.0), image.width), 2) for edge in (x, x + w))
    y0, y1 = (round(min(max(edge, 0.0), image.height), 2) for edge in (y, y + h))
    return BoxRow(0, image.image_id, category_id, category, SOURCE, 1.0, x0, y0, x1, y1, is_ignored)
