"""The images of an export: which they are, in which part, with which boxes, and notes for a person."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from itertools import count
from typing import NamedTuple

from mining.corpus.identical_images import ImageFile, map_copies_to_first
from mining.corpus.near_duplicates import NearDuplicates, Progress, count_groups, find_near_duplicates
from mining.corpus.splits import TRAIN
from mining.export.splits import Split, find_split
from mining.export.val_truth import ValTruth, validation_images_have
from mining.runs.reading import iter_boxed, iter_boxes, iter_images
from mining.runs.rows import BoxedImage, BoxRow, ImageRow
from mining.runs.run import Run


class PartImage(NamedTuple):
    """An image of one part, with the boxes that it is exported with."""

    part: str
    image: ImageRow
    boxes: tuple[BoxRow, ...]

    @property
    def boxed(self) -> BoxedImage:
        """The image and its boxes without the part."""
        return BoxedImage(self.image, self.boxes)


@dataclass(frozen=True)
class ExportedSet:
    """The images that a detector is trained and validated on, with their boxes.

    To a trainer, an image without a box is a negative. If it is unknown what the image shows (no region was found, or
    all scores are too low), it would teach that an object is background; so it is left out unless `include_empty`.
    Images whose labels say that they show none of the classes are true negatives and always exported. Quarantined
    images never are. With ground truth, validation and test images have its boxes, and those that it does not list are
    left out.

    Attributes:
        run: The run.
        min_score: Boxes with a lower score are dropped.
        include_empty: Export images without a box that are not known to be empty.
        split: The rule that assigns images to parts.
        truth: Ground truth for validation and test images, if any.
        used_classes: List only classes that have a box in the export.
        only: Export these images, with or without a box, and no others; None exports all.
        images_of: Number of images by part.
        boxes_of: Number of boxes by category id.
        near_duplicates: The near-duplicates among the images; None if they were not looked for.
    """

    run: Run
    min_score: float
    include_empty: bool
    split: Split
    truth: ValTruth | None = None
    used_classes: bool = False
    only: frozenset[str] | None = None
    images_of: Counter[str] = field(default_factory=Counter)
    boxes_of: Counter[int] = field(default_factory=Counter)
    near_duplicates: NearDuplicates | None = None

    @property
    def parts(self) -> tuple[str, ...]:
        """The parts that have an image, training first."""
        return tuple(part for part in self.split.parts if self.images_of[part])

    @cached_property
    def classes(self) -> tuple[tuple[int, str], ...]:
        """Category id and name of the classes that the export lists, in the order of the model.

        All classes of the model, or with `used_classes` those that have a box. Ids are the model's in both cases.
        """
        used = tuple((number, name) for number, name in self.run.classes if self.boxes_of[number])
        return used if self.used_classes and used else tuple(self.run.classes)

    @cached_property
    def class_indices(self) -> dict[int, int]:
        """Index of each exported class in `classes`, by category id."""
        return {number: index for index, (number, _) in enumerate(self.classes)}

    def __iter__(self) -> Iterator[PartImage]:
        """Yield the images in the order of the corpus."""
        numbers = count(1 + self._last_id()) if self.truth else count()
        for image, boxes in _boxed(self.run, self.min_score, self.only):
            part = self.split.part_of(image)
            if self.truth is not None and part != TRAIN:
                true_boxes = self.truth.boxes_of(image)
                if true_boxes is not None:
                    numbered = (box._replace(annotation_id=next(numbers)) for box in true_boxes)
                    yield PartImage(part, image, tuple(numbered))
            elif boxes or image.is_known_empty or self.include_empty or self.only is not None:
                yield PartImage(part, image, boxes)

    def _last_id(self) -> int:
        return max((box.annotation_id for box in iter_boxes(self.run.annotations)), default=0)

    def class_notes(self) -> tuple[str, ...]:
        """Return a note for formats that list classes, if most of those listed have no box."""
        used = sum(bool(self.boxes_of[number]) for number, _ in self.classes)
        if not used or 2 * used >= len(self.classes):
            return ()
        return (f"{used} of {len(self.classes)} classes have a box; --used-classes lists only these.",)

    def notes(self) -> list[str]:
        """Return notes on validation, on copies, and on what a detector may learn wrongly from the export."""
        return [*self._validation_notes(), *self.split.notes, *self._unboxed_notes()]

    def review_notes(self) -> list[str]:
        """Return a note on images that are not exported for review because they have no box."""
        if self.only is not None:
            lost = len(self.only) - sum(self.images_of.values())
            return [f"{_images(lost)} in the plan, but not among the readable images of the run."] if lost else []
        images = sum(1 for _ in iter_images(self.run.corpus)) - sum(self.images_of.values())
        return [f"{_images(images)} left out for having no box; --include-empty exports them."] if images else []

    def near_duplicate_notes(self) -> list[str]:
        """Return a sentence on near-duplicates and on images that could not be compared, if they were looked for."""
        found = self.near_duplicates
        if found is None:
            return []
        groups, images = count_groups(self.split.copies, (one.image.file_name for one in self))
        counted = "1 group" if groups == 1 else f"{groups} groups"
        notes = [
            f"{_images(images)} copies or near-duplicates of others, in {counted}. Each group is in one part."
            if groups
            else "No images that are near-duplicates of others were found."
        ]
        if found.unreadable:
            first = min(found.unreadable)
            number = len(found.unreadable)
            notes.append(
                f"{'1 image' if number == 1 else f'{number} images'} could not be searched for near-duplicates; the "
                f"first is {first}: {found.unreadable[first]}"
            )
        return notes

    def _validation_notes(self) -> list[str]:
        held_out = sum(self.images_of[part] for part in self.parts if part != TRAIN)
        if self.truth is not None:
            return self.truth.notes(held_out)
        if not held_out:
            return []
        return [
            f"{validation_images_have(held_out)} mined boxes, not ground truth: metrics on them measure how well a "
            "detector agrees with the mined boxes, not how good it is. If you have ground truth, add --val-truth."
        ]

    def _unboxed_notes(self) -> list[str]:
        """Notes on images with a labelled class that has no box in the export."""
        by_score = never = left_out = 0
        pairs = zip(_boxed(self.run, self.min_score, self.only), _boxed(self.run, 0.0, self.only), strict=True)
        for (image, kept), (_, mined) in pairs:
            if self.truth is not None and self.split.part_of(image) != TRAIN:
                continue
            if not kept:
                left_out += bool(mined) and not self.include_empty
                continue
            unboxed = set(image.labels or ()) - {box.category for box in kept}
            is_lost = bool(unboxed & {box.category for box in mined})
            by_score, never = by_score + is_lost, never + (bool(unboxed) and not is_lost)
        effect = "a detector learns that these objects are background"
        return [
            sentence
            for number, sentence in (
                (left_out, f"{_images(left_out)} left out because all boxes score below {self.min_score:.3g}."),
                (
                    by_score,
                    f"{_images(by_score)} exported with a labelled class that has no box, because its boxes score "
                    f"below {self.min_score:.3g}: {effect}.",
                ),
                (never, f"{_images(never)} exported with a labelled class that no box was mined for: {effect}."),
            )
            if number
        ]


def _images(number: int) -> str:
    return f"{number} image is" if number == 1 else f"{number} images are"


def _boxed(run: Run, min_score: float, only: frozenset[str] | None = None) -> Iterator[BoxedImage]:
    every = iter_boxed(iter_images(run.corpus), iter_boxes(run.annotations, min_score))
    return every if only is None else (one for one in every if one.image.file_name in only)


def exported_set(
    run: Run, *, min_score: float, include_empty: bool, val_share: float, seed: int, truth: ValTruth | None,
    used_classes: bool = False, only: frozenset[str] | None = None, near_duplicates: bool = False,
    progress: Progress = lambda done, total: None,
) -> ExportedSet:  # fmt: skip
    """Choose the images of an export and split them; see `export` for the arguments."""

    def candidates() -> Iterator[ImageRow]:
        for image, boxes in _boxed(run, min_score, only):
            is_kept = boxes or image.is_known_empty or include_empty or only is not None
            if is_kept or (truth is not None and truth.lists(image)):
                yield image

    def files() -> Iterator[ImageFile]:
        return (ImageFile(one.file_name, run.image_root / one.file_name, one.content_hash) for one in candidates())

    copies = map_copies_to_first(files)
    split = find_split(candidates(), val_share=val_share, seed=seed, copies=copies)
    found = None
    if near_duplicates and (val_share > 0 or split.listed):
        names = [one.file_name for one in candidates()]
        found = find_near_duplicates(run.image_root, names, copies=copies, progress=progress)
        split = find_split(candidates(), val_share=val_share, seed=seed, copies=found.groups(names))
    exported = ExportedSet(run, min_score, include_empty, split, truth, used_classes, only, near_duplicates=found)
    for one in exported:
        exported.images_of[one.part] += 1
        exported.boxes_of.update(box.category_id for box in one.boxes)
    return exported
