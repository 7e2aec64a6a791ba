"""Models that need no training: a backbone's own ImageNet classifier, read by CAM and its relatives."""

from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn

from mining.backbones.build import build
from mining.backbones.registry import no_linear_classifier, spec_of
from mining.config import MineOptions
from mining.localizers.base import Localizer
from mining.localizers.cam import CAM
from mining.localizers.classifier import Classifier
from mining.models.card import PRETRAINED, ModelCard
from mining.models.checkpoint import build_localizer, load_model
from mining.models.class_selection import select_classes
from mining.models.overrides import apply_overrides

UNTRAINED = {"weights": "ImageNet-1k classifier, not trained further"}  # the card's record of training


def load_reference(reference: str | Path, settings: MineOptions | None = None) -> tuple[Localizer, ModelCard]:
    """Load a model folder or `pretrained:BACKBONE`, in memory.

    Args:
        reference: Path of a model folder, or `pretrained:` and the name of a backbone.
        settings: May ask for another localizer on the same weights, for other options of the localizer, or for a part
            of the classes or other names of them.

    Returns:
        The localizer in evaluation mode on the CPU, and its card.

    Raises:
        ModelError: The model is unknown, damaged or not available, or the settings do not fit it.
    """
    if str(reference).startswith(PRETRAINED):
        localizer, card = pretrained_model(str(reference).removeprefix(PRETRAINED), settings)
    else:
        localizer, card = load_model(Path(reference), settings)
    return localizer, card if settings is None else select_classes(card, settings)


def pretrained_model(backbone: str, settings: MineOptions | None = None) -> tuple[Localizer, ModelCard]:
    """Build CAM, or a relative of it, on a backbone's own ImageNet classifier.

    Args:
        backbone: A backbone whose ImageNet classifier is one linear layer on averaged features.
        settings: May ask for another localizer on the same weights, or for other options of the localizer.

    Returns:
        The localizer in evaluation mode on the CPU, and its card.

    Raises:
        ModelError: The backbone has no such classifier (before its weights are downloaded), the weights are not
            available, or the settings do not fit.
    """
    card = pretrained_card(backbone)
    if settings is not None:
        card = apply_overrides(card, settings)
    with torch.device("meta"):  # the layers alone, without memory or a download
        _, linear = build(backbone)
    if linear is None or linear.out_features != len(card.classes):
        raise no_linear_classifier(backbone)
    localizer, linear = build_localizer(card, weights="imagenet")
    cast(Classifier, localizer).load_linear(cast(nn.Linear, linear))
    return localizer.eval(), replace(card, normalisation=localizer.backbone.normalisation)


def pretrained_card(backbone: str) -> ModelCard:
    """Return the card of CAM on a backbone's ImageNet classifier, before anything is built or downloaded."""
    classes = [{"id": number, "name": name} for number, name in enumerate(imagenet_names(), start=1)]
    return ModelCard(
        localizer=CAM.name,
        backbone=backbone,
        objective="single",
        classes=classes,
        input_size=spec_of(backbone).input_size,
        normalisation={},
        training=UNTRAINED,
    )


def imagenet_names() -> list[str]:
    """Return the 1000 ImageNet-1k class names in the order of the usual classifiers, each unique."""
    from timm.data.imagenet_info import ImageNetInfo

    info = cast(Any, ImageNetInfo)()
    full = [info.index_to_description(index) for index in range(info.num_classes())]
    short = [description.split(",")[0].strip() for description in full]
    return [
        name if short.count(name) == 1 else f"{name} ({info.index_to_label_name(index)})"
        for index, name in enumerate(short)
    ]
