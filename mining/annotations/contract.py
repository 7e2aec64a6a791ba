"""What every exporter is given, which images it exports, and what it gives back."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from mining.annotations.reading import BoxedImage, FinishedRun, iter_boxed, iter_boxes, iter_images
from mining.errors import InputError


@dataclass(frozen=True)
class ExportOptions:
    """How to export; raises InputError for a value out of its range.

    min_score: in [0, 1]; boxes below it are dropped.
    copy: copy the images even where they could be hard-linked.
    val_share, seed: of the split into train and val, where the corpus has none.
    include_empty: export images without a box too, known to be empty or not.
    """

    min_score: float = 0.0
    copy: bool = False
    val_share: float = 0.1
    seed: int = 0
    include_empty: bool = False

    def __post_init__(self) -> None:
        if not 0.0 <= self.min_score <= 1.0:
            raise InputError(f"min_score is {self.min_score}; it must be between 0 and 1.")
        if not 0.0 <= self.val_share < 1.0:
            raise InputError(f"val_share is {self.val_share}; it must be 0 or more and less than 1.")


class Written(NamedTuple):
    """What an exporter wrote."""

    images: int
    boxes: int


Exporter = Callable[[FinishedRun, Path, ExportOptions], Written]


def exported_images(run: FinishedRun, options: ExportOptions) -> Iterator[BoxedImage]:
    """The images that a detector may be trained on, with the boxes that score enough.

    An image without a box is a negative to a trainer. Where nobody knows what it shows (no region was found, or all
    scored too low) it would teach that an object is background, so it is left out unless include_empty. Images whose
    labels say that none of the classes is there are true negatives and always come along. Quarantined ones never do.
    """
    for boxed in iter_boxed(iter_images(run.corpus), iter_boxes(run.annotations, options.min_score)):
        if boxed.boxes or boxed.image.is_known_empty or options.include_empty:
            yield boxed
