"""What a training starts from: weights of a backbone, another model, and a trained evaluator."""

from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from mining.config import WEIGHTS_MARK, TrainSettings
from mining.errors import ModelError
from mining.localizers.base import Localizer
from mining.localizers.cam import CAM
from mining.models.card import WEIGHTS_FILE, ModelCard, read_card
from mining.models.checkpoint import build_localizer, load_model, refuse_other_weights
from mining.training.option_checks import refuse_evaluator_of, refuse_other_evaluator, refuse_other_start

State = dict[str, Tensor]
_CELLS = "cells."  # beginning of the names of a cell classifier's weights, which is trained again


def build_to_train(card: ModelCard, settings: TrainSettings) -> tuple[Localizer, list[str]]:
    """Build the localizer that a training starts with.

    Args:
        card: The model that will be trained.
        settings: `weights` and `evaluator` say what it starts from.

    Returns:
        The localizer, and sentences on what it started from.

    Raises:
        ModelError: The weights or the evaluator are missing or do not fit.
    """
    folder = Path(settings.weights) if WEIGHTS_MARK.is_path(settings.weights) else None
    notes = []
    if folder is None or not folder.is_dir():
        localizer, _ = build_localizer(card, weights=settings.weights)
    else:
        localizer, _ = build_localizer(card)
        notes.append(load_other_model(localizer, card, folder))
    if settings.evaluator is not None:
        refuse_evaluator_of(card.localizer)
        notes.append(load_evaluator(localizer, card, settings.evaluator))
    return localizer, notes


def load_other_model(localizer: Localizer, card: ModelCard, folder: Path) -> str:
    """Load the weights of a model of the same localizer and backbone.

    Where it has another number of classes, the layers whose shape depends on it stay as they are.

    Args:
        localizer: Gets the weights.
        card: Its card.
        folder: The model folder.

    Returns:
        A sentence on what was loaded.

    Raises:
        ModelError: The folder is no model, or a model with other layers.
    """
    other = read_card(folder)
    refuse_other_start(card, other, folder)
    state = {name: value for name, value in _state_of(folder, other).items() if not name.startswith(_CELLS)}
    own = localizer.state_dict()
    counts = other.output_count, card.output_count
    reshaped = [name for name in own.keys() & state.keys() if own[name].shape != state[name].shape]
    wrong = [
        *(own.keys() ^ state.keys()),
        *(name for name in reshaped if not _is_of_classes(state[name], own[name], counts)),
    ]
    if wrong:
        raise ModelError(
            f"The model {folder} has other layers than this training, e.g. {min(wrong)}: give the options of the "
            f"localizer that it was trained with, {other.options or 'none'}."
        )
    localizer.load_state_dict({name: value for name, value in state.items() if name not in reshaped}, strict=False)
    layers = ", ".join(sorted({name.rpartition(".")[0] for name in reshaped}))
    return f"The training started from the model {folder}" + (
        f"; it has another number of classes, so these layers were initialised again: {layers}." if reshaped else "."
    )


def load_evaluator(localizer: Localizer, card: ModelCard, folder: Path) -> str:
    """Give a localizer a trained classifier as its evaluator, which is fixed from the first epoch on.

    Args:
        localizer: Gets the evaluator.
        card: Its card.
        folder: Model folder of the classifier.

    Returns:
        A sentence on what was loaded.

    Raises:
        ModelError: The folder is no model, or one of other classes, backbone or kind.
    """
    classifier, other = load_model(folder)
    refuse_other_evaluator(card, other, folder)
    state = {name: value for name, value in classifier.state_dict().items() if not name.startswith(_CELLS)}
    order = [other.class_names.index(name) for name in card.class_names]
    evaluator = CAM(classifier.backbone, len(order))
    for name in ("classifier.weight", "classifier.bias"):
        state[name] = state[name][torch.tensor(order)]
    evaluator.load_state_dict(state)
    localizer.use_evaluator(evaluator)
    return f"The evaluator is the model {folder}, which was not trained further."


def _state_of(folder: Path, card: ModelCard) -> State:
    refuse_other_weights(folder / WEIGHTS_FILE, card)
    return load_file(folder / WEIGHTS_FILE)


def _is_of_classes(old: Tensor, new: Tensor, counts: tuple[int, int]) -> bool:
    """Whether two tensors differ only in sides that are the numbers of classes, old and new."""
    sides = zip(old.shape, new.shape, strict=True) if old.dim() == new.dim() else iter(())
    different = [pair for pair in sides if pair[0] != pair[1]]
    return bool(different) and all(pair == counts for pair in different)
