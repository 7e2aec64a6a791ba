"""Which images an export holds, in which part, with which boxes; and what a person should know about it."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count
from typing import NamedTuple

from mining.corpus.identical_images import ImageFile, map_copies_to_first
from mining.corpus.splits import TRAIN
from mining.export.splits import Split, find_split
from mining.export.val_truth import ValTruth, counted_validation
from mining.runs.reading import BoxedImage, BoxRow, FinishedRun, ImageRow, iter_boxed, iter_boxes, iter_images


class PartImage(NamedTuple):
    """An image of one part, with the boxes that it is exported with."""

    part: str
    image: ImageRow
    boxes: tuple[BoxRow, ...]

    @property
    def boxed(self) -> BoxedImage:
        """Without the part."""
        return BoxedImage(self.image, self.boxes)


@dataclass(frozen=True)
class ExportedSet:
    """The images that a detector may be trained on and validated with, with their boxes.

    An image without a box is a negative to a trainer. Where nobody knows what it shows (no region was found, or all
    scored too low) it would teach that an object is background, so it is left out unless include_empty. Images whose
    labels say that none of the classes is there are true negatives and always come along. Quarantined ones never do.
    With a truth, validation and test images have its boxes, and those that it does not list are left out.
    """

    run: FinishedRun
    min_score: float
    include_empty: bool
    split: Split
    truth: ValTruth | None = None
    images_of: Counter[str] = field(default_factory=Counter)

    @property
    def parts(self) -> tuple[str, ...]:
        """The parts that have an image, training first."""
        return tuple(part for part in self.split.parts if self.images_of[part])

    def __iter__(self) -> Iterator[PartImage]:
        numbers = count(1 + self._last_id()) if self.truth else count()
        for image, boxes in _boxed(self.run, self.min_score):
            part = self.split.part_of(image)
            if self.truth is not None and part != TRAIN:
                true_boxes = self.truth.boxes_of(image)
                if true_boxes is not None:
                    numbered = (box._replace(annotation_id=next(numbers)) for box in true_boxes)
                    yield PartImage(part, image, tuple(numbered))
            elif boxes or image.is_known_empty or self.include_empty:
                yield PartImage(part, image, boxes)

    def _last_id(self) -> int:
        return max((box.annotation_id for box in iter_boxes(self.run.annotations)), default=0)

    def notes(self) -> list[str]:
        """Sentences about validation, copies, and what a detector may learn wrongly from the export."""
        return [*self._validation_notes(), *self.split.notes, *self._unboxed_notes()]

    def _validation_notes(self) -> list[str]:
        held_out = sum(self.images_of[part] for part in self.parts if part != TRAIN)
        if self.truth is not None:
            return self.truth.notes(held_out)
        if not held_out:
            return []
        return [
            f"{counted_validation(held_out)} mined boxes, not true ones: figures measured on them say how well a "
            "detector agrees with the mined boxes, not how good it is. Where there are true boxes, give --val-truth."
        ]

    def _unboxed_notes(self) -> list[str]:
        """About images with a labelled class that has no box in the export."""
        by_score = never = left_out = 0
        pairs = zip(_boxed(self.run, self.min_score), _boxed(self.run, 0.0), strict=True)
        for (image, kept), (_, mined) in pairs:
            if self.truth is not None and self.split.part_of(image) != TRAIN:
                continue
            if not kept:
                left_out += bool(mined) and not self.include_empty
                continue
            unboxed = set(image.labels or ()) - {box.category for box in kept}
            lost = bool(unboxed & {box.category for box in mined})
            by_score, never = by_score + lost, never + (bool(unboxed) and not lost)
        teaches = "a detector learns that what they show of it is background"
        return [
            sentence
            for number, sentence in (
                (left_out, f"{_images(left_out)} left out because all boxes score below --min-score {self.min_score}."),
                (
                    by_score,
                    f"{_images(by_score)} exported with a labelled class that has no box, because its boxes score "
                    f"below --min-score {self.min_score}: {teaches}.",
                ),
                (never, f"{_images(never)} exported with a labelled class that no box was mined for: {teaches}."),
            )
            if number
        ]


def _images(number: int) -> str:
    return f"{number} image is" if number == 1 else f"{number} images are"


def _boxed(run: FinishedRun, min_score: float) -> Iterator[BoxedImage]:
    return iter_boxed(iter_images(run.corpus), iter_boxes(run.annotations, min_score))


def exported_set(
    run: FinishedRun, *, min_score: float, include_empty: bool, val_share: float, seed: int, truth: ValTruth | None
) -> ExportedSet:
    """Choose the images of an export and split them."""

    def candidates() -> Iterator[ImageRow]:
        for image, boxes in _boxed(run, min_score):
            if boxes or image.is_known_empty or include_empty or (truth is not None and truth.lists(image)):
                yield image

    def files() -> Iterator[ImageFile]:
        return (ImageFile(one.file_name, run.image_root / one.file_name, one.content_hash) for one in candidates())

    split = find_split(candidates(), val_share=val_share, seed=seed, copies=map_copies_to_first(files))
    chosen = ExportedSet(run, min_score, include_empty, split, truth)
    chosen.images_of.update(one.part for one in chosen)
    return chosen
