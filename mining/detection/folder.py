"""Save and load detectors as model folders: safetensors weights and model.json, as localizers have them."""

import textwrap
from dataclasses import replace
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from mining.backbones.build import build
from mining.config import DetectorNetworkOptions, parse
from mining.detection.network import Detector
from mining.errors import InputError, ModelError
from mining.models.card import CARD_FILE, WEIGHTS_FILE, ModelCard, is_detector, read_card
from mining.models.checkpoint import refuse_other_weights, write_card
from mining.storage.files import atomic_write, sha256_of

_IN_CARD_ITSELF = {"kind", "side"}


def detector_card(options: DetectorNetworkOptions, backbone: str, classes: list[dict[str, object]]) -> ModelCard:
    """Return the card of an untrained detector.

    Args:
        options: What its network is built from.
        backbone: Name of its backbone.
        classes: [{"id": 1, "name": "dog"}, ...] in the order of its outputs.
    """
    return ModelCard(
        localizer=options.kind,
        backbone=backbone,
        objective="multi",
        classes=classes,
        input_size=options.side,
        normalisation={},
        options=options.model_dump(mode="json", exclude=_IN_CARD_ITSELF),
    )


def build_detector(card: ModelCard, *, weights: str = "none") -> Detector:
    """Build the detector that a card describes, untrained.

    Args:
        card: Kind, backbone, classes, side, options.
        weights: The backbone's weights, see `mining.backbones.build.build`.

    Raises:
        ModelError: The backbone is unknown, or its weights are not available.
        InputError: An option is unknown or has an invalid value.
    """
    options = parse(DetectorNetworkOptions, {"kind": card.localizer, "side": card.input_size, **card.options})
    backbone, _ = build(card.backbone, weights=weights)
    return Detector(backbone, card.output_count, options)


def save_detector(folder: Path, detector: Detector, card: ModelCard) -> ModelCard:
    """Write the weights, then model.json with their SHA-256; returns the card as written."""
    tensors = {name: value.detach().cpu().contiguous() for name, value in detector.state_dict().items()}
    folder.mkdir(parents=True, exist_ok=True)
    with atomic_write(folder / WEIGHTS_FILE) as temporary:
        save_file(tensors, temporary)
    digest = sha256_of(folder / WEIGHTS_FILE)
    written = replace(card, weights_sha256=digest, normalisation=detector.backbone.normalisation)
    write_card(folder, written)
    return written


def load_detector(folder: Path) -> tuple[Detector, ModelCard]:
    """Load the model folder of a detector.

    Args:
        folder: The model folder.

    Returns:
        The detector in evaluation mode on the CPU, and its card.

    Raises:
        ModelError: The folder is no model or that of a localizer, or its weights are damaged.
    """
    card = read_card(folder)
    if not is_detector(card):
        raise ModelError(
            f"{folder} holds a localizer ({card.localizer}), not a detector; give the folder of a detector."
        )
    try:
        detector = build_detector(card)
    except InputError as error:
        raise ModelError(
            f"{folder / CARD_FILE} needs what this version of boxmine does not have: {error} "
            "Use the version it was trained with, or train it again."
        ) from None
    path = folder / WEIGHTS_FILE
    refuse_other_weights(path, card)
    try:
        detector.load_state_dict(load_file(path))
    except (OSError, ValueError, SafetensorError, RuntimeError) as error:
        raise ModelError(
            f"{path} cannot be loaded as {card.localizer} on {card.backbone}: {textwrap.shorten(str(error), 200)}. "
            "Copy the model folder again from an intact copy, or train it again."
        ) from None
    return detector.eval(), card
