"""The result of a training."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal


@dataclass(frozen=True)
class TrainingSummary:
    """folder: of the model. epochs: trained. best_epoch: whose weights were kept (from 1).

    metric: 'accuracy' or 'mean average precision' on the held-back images, value None without any.
    unreadable: file name to reason, of the images left out. notes: sentences about the corpus.
    missing: images that are listed and not there.
    """

    folder: Path
    images: int
    validation_images: int
    classes: int
    objective: Literal["single", "multi"]
    epochs: int
    best_epoch: int
    metric: str
    value: float | None
    seconds: float
    unreadable: dict[str, str]
    notes: list[str]
    missing: int = 0
