"""The interface of exporters: their options, and what they return."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from mining.errors import InputError
from mining.export.croissant_parts import CroissantParts
from mining.export.exported_set import ExportedSet


@dataclass(frozen=True)
class ExportOptions:
    """Options of an export.

    Attributes:
        min_score: Boxes with a lower score are dropped; in [0, 1].
        copy: Copy the images even if they could be hard-linked.
        val_share: Share of images for validation if the corpus has no splits; in [0, 1).
        seed: Seed of that split.
        include_empty: Also export images without a box that are not known to be empty.
        val_truth: File or folder of ground truth boxes for validation and test images, instead of mined boxes.
        used_classes: List only the classes that have a box in the export.
        license: Name of the licence of the images; None if it is not known.

    Raises:
        InputError: A value is out of its range.
    """

    min_score: float = 0.0
    copy: bool = False
    val_share: float = 0.1
    seed: int = 0
    include_empty: bool = False
    val_truth: Path | None = None
    used_classes: bool = False
    license: str | None = None

    def __post_init__(self) -> None:
        """Check the ranges."""
        if not 0.0 <= self.min_score <= 1.0:
            raise InputError(f"min_score is {self.min_score}; it must be between 0 and 1.")
        if not 0.0 <= self.val_share < 1.0:
            raise InputError(f"val_share is {self.val_share}; it must be 0 or more and less than 1.")


class Written(NamedTuple):
    """What an exporter wrote.

    Attributes:
        images: Number of images.
        boxes: Number of boxes.
        notes: Sentences for a person.
        readme_head: What README.md begins with.
        part_names: What the format calls the parts, where it has other names.
        keeps_ignored: Whether the format has true boxes that are to be ignored, and `boxes` counts them.
        class_numbers: What the format calls the classes, by category id; None for names alone.
        training: Lines of README.md on how to train with the set.
        croissant: What croissant.json says of the files; None for a format that has none.
    """

    images: int
    boxes: int
    notes: tuple[str, ...] = ()
    readme_head: str = ""
    part_names: Mapping[str, str] | None = None
    keeps_ignored: bool = False
    class_numbers: Mapping[int, int] | None = None
    croissant: CroissantParts | None = None
    training: Sequence[str] = ()


Exporter = Callable[[ExportedSet, Path, ExportOptions], Written]
