"""Checks of training options; they import no network library."""

from pathlib import Path

from mining.config import TrainOptions
from mining.errors import ModelError
from mining.localizers.registry import CLASSIFIER, LOCALIZERS
from mining.models.card import ModelCard, refuse_detector


def refuse_blind_backbone(options: TrainOptions) -> None:
    """Refuse to freeze a backbone of random weights.

    Raises:
        ModelError: `freeze` with weights none.
    """
    if options.freeze and options.weights == "none":
        raise ModelError(
            "A frozen backbone without pretrained weights learns nothing; give --no-freeze, or omit --weights none."
        )


def refuse_small_crops(options: TrainOptions, size: int) -> None:
    """Check that crops of `size` px fit into the square they are cut from.

    Raises:
        ModelError: `crop_from` is smaller.
    """
    if options.crop_from is not None and options.crop_from < size:
        raise ModelError(
            f"--crop-from {options.crop_from} is less than the {size} px of the network's input: give {size} or "
            "more, or a smaller --input-size."
        )


def refuse_other_start(card: ModelCard, other: ModelCard, folder: Path) -> None:
    """Check that a training can start from another model.

    Args:
        card: What is trained: localizer and backbone.
        other: The other model's card.
        folder: Its folder, for the message.

    Raises:
        ModelError: It is a detector, or of another localizer or backbone.
    """
    refuse_detector(other, folder)
    if (other.localizer, other.backbone) != (card.localizer, card.backbone):
        raise ModelError(
            f"The model {folder} is {other.localizer} on {other.backbone}, this training {card.localizer} on "
            f"{card.backbone}: give a model of the same localizer and backbone, or a file of the backbone's weights."
        )


def refuse_evaluator_of(localizer: str) -> None:
    """Raise ModelError if the localizer has no evaluator."""
    if not LOCALIZERS[localizer].takes_evaluator:
        usable = ", ".join(name for name, entry in LOCALIZERS.items() if entry.takes_evaluator)
        raise ModelError(f"--evaluator is for --localizer {usable}; {localizer} has no evaluator.")


def refuse_other_evaluator(card: ModelCard, other: ModelCard, folder: Path) -> None:
    """Check that a model can be the evaluator of a training; classes are checked where the card has any.

    Args:
        card: What is trained: localizer, backbone, classes.
        other: The model's card.
        folder: Its folder, for the message.

    Raises:
        ModelError: The model is no classifier of the same backbone and classes.
    """
    refuse_detector(other, folder)
    entry = LOCALIZERS.get(other.localizer)
    if entry is None or entry.weights_of != CLASSIFIER:
        family = ", ".join(name for name, one in LOCALIZERS.items() if one.weights_of == CLASSIFIER)
        raise ModelError(
            f"The evaluator {folder} is a model of {other.localizer}; give a classifier, a model of one of: {family}."
        )
    if other.backbone != card.backbone:
        raise ModelError(f"The evaluator {folder} has the backbone {other.backbone}, this training {card.backbone}.")
    if card.classes and (set(other.class_names), other.objective) != (set(card.class_names), card.objective):
        different = sorted(set(other.class_names) ^ set(card.class_names))
        what = f"e.g. {different[0]!r}" if different else f"{other.objective} instead of {card.objective}"
        raise ModelError(
            f"The evaluator {folder} has other classes than this training, {what}: train it on the same labels."
        )
