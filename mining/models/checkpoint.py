"""Save and load localizers: weights as safetensors beside model.json, and nothing that can run code."""

import textwrap
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from mining.backbones.build import build
from mining.backbones.classifiers import build_classifier
from mining.backbones.registry import IMAGENET_CLASSES
from mining.config import MineOptions
from mining.errors import ModelError
from mining.localizers.base import Localizer
from mining.localizers.cell_classifier import build_cell_classifier
from mining.localizers.gradient import GradientLocalizer
from mining.localizers.loading import localizer_named
from mining.localizers.option_values import with_changed_defaults
from mining.models.card import (
    CARD_FILE,
    FORMAT,
    INT8_FILE,
    WEIGHTS_FILE,
    ModelCard,
    read_card,
    refuse_detector,
    refuse_imported,
)
from mining.models.overrides import apply_overrides
from mining.storage.files import atomic_write, sha256_of, write_json
from mining.storage.untrusted_files import open_input


def build_localizer(
    card: ModelCard, *, weights: str = "none", classes: int | None = None
) -> tuple[Localizer, nn.Linear | None]:
    """Build the localizer that a card describes, untrained.

    Args:
        card: Localizer, options, backbone and classes.
        weights: The backbone's weights, see `mining.backbones.build.build`.
        classes: Number of outputs of the backbone's own classifier; None for ImageNet's.

    Returns:
        The localizer, and the backbone's ImageNet classifier where it has a linear one.
    """
    kind = cast(Any, localizer_named(card.localizer))
    if card.own_head:
        backbone, head = build_classifier(card.backbone, weights=weights, classes=card.output_count)
        localizer: Localizer = kind(backbone, card.output_count, **card.options)
        cast(GradientLocalizer, localizer).use_head(head)
        return localizer, None
    backbone, linear = build(card.backbone, weights=weights, classes=classes or IMAGENET_CLASSES)
    localizer = kind(backbone, card.output_count, **card.options)
    if card.cells is not None:
        if max(card.cells.stages) >= len(localizer.backbone.channels):
            raise ModelError(f"{card.backbone} has no stage {max(card.cells.stages)} for its cell classifier.")
        localizer.cells = build_cell_classifier(localizer.backbone, card.output_count, card.cells)
    return localizer, linear


def save_model(folder: Path, localizer: Localizer, card: ModelCard) -> ModelCard:
    """Write the weights, then model.json with their SHA-256; returns the card as written."""
    tensors = {name: value.detach().cpu().contiguous() for name, value in localizer.state_dict().items()}
    with atomic_write(folder / WEIGHTS_FILE) as temporary:
        save_file(tensors, temporary)
    digest = sha256_of(folder / WEIGHTS_FILE)
    written = replace(card, weights_sha256=digest)
    write_card(folder, written)
    return written


def write_card(folder: Path, card: ModelCard) -> None:
    """Write model.json, with the options whose defaults have changed."""
    options = with_changed_defaults(card.localizer, card.options)
    write_json(folder / CARD_FILE, {"format": FORMAT, **card.to_record(), "options": options})


def load_model(folder: Path, settings: MineOptions | None = None) -> tuple[Localizer, ModelCard]:
    """Load a model folder.

    Args:
        folder: The model folder.
        settings: May ask for another localizer on the same weights, or for other options of the localizer.

    Returns:
        The localizer in evaluation mode on the CPU, and its card.

    Raises:
        ModelError: The folder is no model, its weights are damaged, or the settings do not fit it.
    """
    card = read_card(folder)
    refuse_imported(card, folder)
    refuse_detector(card, folder)
    if settings is not None:
        card = apply_overrides(card, settings)
    try:
        localizer, _ = build_localizer(card)
    except (ModelError, TypeError) as error:
        raise ModelError(
            f"{folder / CARD_FILE} needs what this version of boxmine does not have: {error} "
            "Use the version it was trained with, or train it again."
        ) from None
    path = folder / WEIGHTS_FILE
    try:
        refuse_other_weights(path, card)
        localizer.load_state_dict(load_file(path))
    except (OSError, ValueError, SafetensorError, RuntimeError) as error:
        raise ModelError(
            f"{path} cannot be loaded as {card.localizer} on {card.backbone}: {textwrap.shorten(str(error), 200)}. "
            "Copy the model folder again from an intact copy, or train it again."
        ) from None
    localizer.int8_networks = folder / INT8_FILE
    return localizer.eval(), card


def refuse_other_weights(path: Path, card: ModelCard) -> None:
    """Check a weights file against the SHA-256 in the card.

    Raises:
        ModelError: The file is not that one, or cannot be read.
    """
    try:
        open_input(path).close()
        if card.weights_sha256 not in ("", sha256_of(path)):
            raise ValueError("its SHA-256 is not the one in model.json; the file is damaged or of another model")
    except (OSError, ValueError) as error:
        raise ModelError(
            f"{path} cannot be used: {getattr(error, 'strerror', None) or error}. Copy the model folder again from "
            "an intact copy, or train it again."
        ) from None
