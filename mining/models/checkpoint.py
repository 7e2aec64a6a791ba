"""Localizers in model folders: weights as safetensors beside model.json, and nothing that can run code."""

import os
import textwrap
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from mining.backbones import base
from mining.backbones.registry import cannot_mine_untrained
from mining.config import MapThreshold, MineOptions, Normalisation
from mining.errors import ModelError
from mining.localizers.base import Localizer
from mining.localizers.cam import CAM
from mining.localizers.options import build_config
from mining.localizers.registry import localizer_named
from mining.models.card import CARD_FILE, FORMAT, PRETRAINED, WEIGHTS_FILE, ModelCard, read_card
from mining.storage.files import atomic_write, link_or_copy, sha256_of, write_json
from mining.storage.untrusted_files import open_input

_UNTRAINED = {"weights": "ImageNet-1k classifier, not trained further"}


def build_localizer(card: ModelCard, *, weights: str = "none") -> tuple[Localizer, nn.Linear | None]:
    """A fresh localizer for the card, and the backbone's ImageNet classifier where it has one."""
    backbone, linear = base.build(card.backbone, weights=weights)
    kind = cast(Any, localizer_named(card.localizer))
    return kind(backbone, len(card.classes), **card.options), linear


def save_model(folder: Path, localizer: Localizer, card: ModelCard) -> ModelCard:
    """Write the weights, then model.json with their SHA-256; gives the card as written."""
    tensors = {name: value.detach().cpu().contiguous() for name, value in localizer.state_dict().items()}
    with atomic_write(folder / WEIGHTS_FILE) as temporary:
        save_file(tensors, temporary)
    digest = sha256_of(folder / WEIGHTS_FILE)
    written = ModelCard(**{**asdict(card), "weights_sha256": digest})
    write_json(folder / CARD_FILE, {"format": FORMAT, **asdict(written)})
    return written


@dataclass(frozen=True)
class ExtractionParams:
    """Where maps are cut and classes taken: what a person asked for, or the best known of the localizer and model."""

    threshold: float | MapThreshold
    class_thresholds: dict[str, float]  # of classes that have their own
    normalise: Normalisation
    class_cut: float


def apply_overrides(card: ModelCard, settings: MineOptions) -> ModelCard:
    """The card with the method and options that the settings ask for instead of its own.

    Raises ModelError where the method is unknown or does not stand on the same weights.
    """
    trained = localizer_named(card.localizer)
    if settings.localizer is None or settings.localizer == card.localizer:
        options = {**card.options, **settings.options}
        build_config(trained.Config, options)
        return replace(card, options=options)
    asked = localizer_named(settings.localizer)
    build_config(asked.Config, settings.options)
    if asked.weights_of is None or asked.weights_of != trained.weights_of:
        raise ModelError(
            f"The model was trained for {card.localizer}, whose weights are not those of {settings.localizer}; "
            f"train one with --localizer {settings.localizer}."
        )
    return replace(card, localizer=settings.localizer, options=settings.options)


def extraction_params(card: ModelCard, settings: MineOptions) -> ExtractionParams:
    """Where the maps of the card's localizer are cut. card: that of `apply_overrides`."""
    kind = localizer_named(card.localizer)
    return ExtractionParams(
        kind.threshold if settings.threshold is None else settings.threshold,
        settings.class_thresholds,
        kind.normalise if settings.normalise is None else settings.normalise,
        (0.2 if card.objective == "single" else 0.4) if settings.class_cut is None else settings.class_cut,
    )


def refuse_other_weights(path: Path, card: ModelCard) -> None:
    """Raises ModelError where the file is not the one whose SHA-256 the card has."""
    try:
        open_input(path).close()
        if card.weights_sha256 not in ("", sha256_of(path)):
            raise ValueError("its SHA-256 is not the one in model.json; the file is damaged or of another model")
    except (OSError, ValueError) as error:
        raise ModelError(
            f"{path} cannot be used: {getattr(error, 'strerror', None) or error}. Copy the model folder again from "
            "where it is whole, or train it again."
        ) from None


def load_model(folder: Path, settings: MineOptions | None = None) -> tuple[Localizer, ModelCard]:
    """The localizer in evaluation mode on the CPU, and its card.

    settings: may ask for another method on the same weights, or for other options.
    Raises ModelError, also when the weights are not those whose SHA-256 the card has.
    """
    card = read_card(folder)
    if settings is not None:
        card = apply_overrides(card, settings)
    try:
        localizer, _ = build_localizer(card)
    except (ModelError, TypeError) as error:
        raise ModelError(
            f"{folder / CARD_FILE} asks for what this version of boxmine does not have: {error} "
            "Use the version it was trained with, or train it again."
        ) from None
    path = folder / WEIGHTS_FILE
    try:
        refuse_other_weights(path, card)
        localizer.load_state_dict(load_file(path))
    except (OSError, ValueError, SafetensorError, RuntimeError) as error:
        raise ModelError(
            f"{path} cannot be loaded as {card.localizer} on {card.backbone}: {textwrap.shorten(str(error), 200)}. "
            "Copy the model folder again from where it is whole, or train it again."
        ) from None
    return localizer.eval(), card


def pretrained_model(backbone: str, weights: str = "imagenet") -> tuple[Localizer, ModelCard]:
    """CAM on the backbone's own ImageNet classifier: no training at all.

    Raises ModelError for a backbone whose ImageNet classifier does not stand on averaged features, before its
    weights are asked for.
    """
    spec = base.spec_of(backbone)
    classes = [{"id": number, "name": name} for number, name in enumerate(imagenet_names(), start=1)]
    card = ModelCard(
        localizer=CAM.name, backbone=backbone, objective="single", classes=classes, input_size=spec.input_size,
        normalisation={}, training=_UNTRAINED,
    )  # fmt: skip
    with torch.device("meta"):  # a look at the layers costs neither memory nor a download
        _, linear = base.build(backbone)
    if linear is None or linear.out_features != len(classes):
        raise cannot_mine_untrained(backbone)
    localizer, linear = build_localizer(card, weights=weights)
    cast(CAM, localizer).load_linear(cast(nn.Linear, linear))
    return localizer.eval(), ModelCard(**{**asdict(card), "normalisation": localizer.backbone.normalisation})


def imagenet_names() -> list[str]:
    """The 1000 ImageNet-1k class names in the order of the usual classifiers, each unique."""
    from timm.data.imagenet_info import ImageNetInfo

    info = cast(Any, ImageNetInfo)()
    full = [info.index_to_description(index) for index in range(info.num_classes())]
    short = [description.split(",")[0].strip() for description in full]
    return [
        name if short.count(name) == 1 else f"{name} ({info.index_to_label_name(index)})"
        for index, name in enumerate(short)
    ]


def install_model(reference: str, folder: Path) -> ModelCard:
    """Bring the model that `reference` names (a folder or pretrained:BACKBONE) into `folder`, and give its card."""
    if reference.startswith(PRETRAINED):
        backbone = reference.removeprefix(PRETRAINED)
        there = read_card(folder) if (folder / CARD_FILE).is_file() else None
        if there is not None and there.training != _UNTRAINED:
            raise ModelError(f"{folder} holds a trained model, not {reference}; give another --out.")
        return there if there is not None and there.backbone == backbone else _install_pretrained(backbone, folder)
    source = Path(reference)
    card = read_card(source)
    refuse_other_weights(source / WEIGHTS_FILE, card)
    if source.resolve() != folder.resolve():
        if (folder / CARD_FILE).is_file() and read_card(folder).weights_sha256 != card.weights_sha256:
            raise ModelError(f"{folder} holds another model than {source}; give another --out.")
        for name in (WEIGHTS_FILE, CARD_FILE):  # the card last: a folder with a card is complete
            with atomic_write(folder / name) as temporary:
                link_or_copy(source / name, temporary)  # a run a night must not take a model's room each
    return card


def _install_pretrained(backbone: str, folder: Path) -> ModelCard:
    return save_model(folder, *pretrained_model(backbone))


def gpus_for(name: str) -> list[str]:
    """What CUDA_VISIBLE_DEVICES calls the GPUs that this process may use; none where the device is no GPU of any kind.

    Does not start CUDA, which takes memory of a GPU. name: see `resolve_device`.
    """
    if name not in ("auto", "cuda"):
        return []
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    count = torch.cuda.device_count()
    return [str(number) for number in range(count)] if visible is None else visible.split(",")[:count]
