"""Models that need no training: classifiers of torchvision and timm, with ImageNet's weights or those of a file."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn

from mining.backbones.classifiers import classifier_spec
from mining.backbones.registry import has_linear_classifier, spec_of
from mining.config import SYNSETS, MineOptions, PretrainedOptions
from mining.localizers.base import Localizer
from mining.localizers.classifier import Classifier
from mining.models.card import PRETRAINED, ModelCard
from mining.models.checkpoint import build_localizer, load_model
from mining.models.class_selection import select_classes
from mining.models.overrides import apply_overrides
from mining.models.pretrained_choice import default_localizer, read_class_names, refuse_files_of_pretrained
from mining.storage.files import sha256_of

_ELSEWHERE = "not trained further"
UNTRAINED = {"weights": f"ImageNet-1k classifier, {_ELSEWHERE}"}  # the card's record of training


def load_reference(reference: str | Path, settings: MineOptions | None = None) -> tuple[Localizer, ModelCard]:
    """Load a model folder or `pretrained:NAME`, in memory.

    Args:
        reference: Path of a model folder, or `pretrained:` and the name of a classifier.
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
        if settings is not None:
            refuse_files_of_pretrained(settings, str(reference))
        localizer, card = load_model(Path(reference), settings)
    return localizer, card if settings is None else select_classes(card, settings)


def pretrained_model(name: str, settings: MineOptions | None = None) -> tuple[Localizer, ModelCard]:
    """Build a localizer on a classifier that was trained elsewhere.

    Args:
        name: A listed backbone whose ImageNet classifier is one linear layer on averaged features; or any other
            classifier of torchvision or timm, which keeps its own head and strides and is read by its gradients.
        settings: May ask for another localizer on the same weights, for other options of the localizer, or for other
            weights and classes than ImageNet's.

    Returns:
        The localizer in evaluation mode on the CPU, and its card.

    Raises:
        ModelError: There is no such classifier, or it cannot be read (before its weights are downloaded); the weights
            are not available, or the settings do not fit.
    """
    options = settings or MineOptions()
    card = apply_overrides(pretrained_card(name, options), options)
    with _random_weights_of_one_seed(options.weights == "none"):
        localizer, linear = build_localizer(card, weights=options.weights, classes=card.output_count)
    if not card.own_head:
        cast(Classifier, localizer).load_linear(cast(nn.Linear, linear))
    return localizer.eval(), replace(card, normalisation=localizer.backbone.normalisation)


def pretrained_card(name: str, options: PretrainedOptions | None = None) -> ModelCard:
    """Return the card of a classifier that was trained elsewhere, before anything is built or downloaded.

    Args:
        name: See `pretrained_model`.
        options: Weights and classes that are not ImageNet's.

    Raises:
        ModelError: There is no such classifier, or a file of the options cannot be used.
    """
    options = options or PretrainedOptions()
    refuse_files_of_pretrained(options, PRETRAINED + name)
    names = _class_names(options.class_names)
    own_head = not has_linear_classifier(name)
    return ModelCard(
        localizer=default_localizer(name),
        backbone=name,
        objective=options.objective,
        classes=[{"id": number, "name": one} for number, one in enumerate(names, start=1)],
        input_size=(classifier_spec if own_head else spec_of)(name).input_size,
        normalisation={},
        training=_record_of_training(options),
        own_head=own_head,
    )


def _class_names(source: Path | None) -> list[str]:
    if source is None:
        return imagenet_names()
    return imagenet_synsets() if source == SYNSETS else read_class_names(source)


def is_pretrained(training: dict[str, Any]) -> bool:
    """Whether a card's record of training is that of a classifier that was trained elsewhere."""
    return _ELSEWHERE in str(training.get("weights", ""))


def _record_of_training(options: PretrainedOptions) -> dict[str, Any]:
    if options.weights == "imagenet":
        return UNTRAINED
    if options.weights == "none":
        return {"weights": f"random, {_ELSEWHERE}"}
    path = Path(options.weights)
    return {"weights": f"{path.name}, {_ELSEWHERE}", "sha256": sha256_of(path)}


@contextmanager
def _random_weights_of_one_seed(is_random: bool) -> Iterator[None]:
    if not is_random:
        yield
        return
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


def imagenet_names() -> list[str]:
    """Return the 1000 ImageNet-1k class names in the order of the usual classifiers, each unique."""
    info = _imagenet_info()
    full = [info.index_to_description(index) for index in range(info.num_classes())]
    short = [description.split(",")[0].strip() for description in full]
    return [
        name if short.count(name) == 1 else f"{name} ({info.index_to_label_name(index)})"
        for index, name in enumerate(short)
    ]


def imagenet_synsets() -> list[str]:
    """Return the WordNet ids of the 1000 ImageNet-1k classes, n01440764 and so on, in the same order."""
    info = _imagenet_info()
    return [str(info.index_to_label_name(index)) for index in range(info.num_classes())]


def _imagenet_info() -> Any:
    from timm.data.imagenet_info import ImageNetInfo

    return cast(Any, ImageNetInfo)()
