"""The result of a training."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal


@dataclass(frozen=True)
class TrainingSummary:
    """The result of a training.

    Attributes:
        folder: The model folder.
        images: Number of training images.
        validation_images: Number of images held back for validation.
        classes: Number of classes.
        objective: One class per image, or several.
        epochs: Number of epochs that were trained.
        best_epoch: Epoch whose weights were kept, from 1.
        metric: 'accuracy' or 'mean average precision'.
        value: The metric on the validation images; None without any.
        seconds: Duration.
        unreadable: File name to reason, of images that were left out.
        notes: Sentences about the corpus.
        missing: Number of listed images that do not exist.
        warnings: Sentences about labels that teach little, or a model that will not localize, with the remedy.
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
    warnings: list[str] = field(default_factory=list)
