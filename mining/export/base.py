"""What every exporter is given, and what it gives back."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from mining.errors import InputError
from mining.export.exported_set import ExportedSet


@dataclass(frozen=True)
class ExportOptions:
    """How to export; raises InputError for a value out of its range.

    min_score: in [0, 1]; boxes below it are dropped.
    copy: copy the images even where they could be hard-linked.
    val_share, seed: of the split into train and val, where the corpus has none.
    include_empty: export images without a box too, known to be empty or not.
    val_truth: file or folder of true boxes, which validation and test images get instead of mined ones.
    """

    min_score: float = 0.0
    copy: bool = False
    val_share: float = 0.1
    seed: int = 0
    include_empty: bool = False
    val_truth: Path | None = None

    def __post_init__(self) -> None:
        if not 0.0 <= self.min_score <= 1.0:
            raise InputError(f"min_score is {self.min_score}; it must be between 0 and 1.")
        if not 0.0 <= self.val_share < 1.0:
            raise InputError(f"val_share is {self.val_share}; it must be 0 or more and less than 1.")


class Written(NamedTuple):
    """What an exporter wrote. notes: sentences for a person."""

    images: int
    boxes: int
    notes: tuple[str, ...] = ()


Exporter = Callable[[ExportedSet, Path, ExportOptions], Written]
