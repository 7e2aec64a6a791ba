"""Models on disk: a folder with weights.safetensors and model.json, and nothing that can run code."""

import json
import shutil
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, cast

import torch
from pydantic import TypeAdapter
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from mining import backbones
from mining.errors import ModelError
from mining.files import sha256_of, whole_file, write_json
from mining.localizers import localizer_named
from mining.localizers.base import Localizer, Objective
from mining.localizers.cam import CAM

FORMAT = "boxmine-model/1"
PRETRAINED = "pretrained:"
WEIGHTS_FILE = "weights.safetensors"
CARD_FILE = "model.json"
CHECKPOINTS = "checkpoints"  # of an unfinished training, in the model folder
_UNTRAINED = {"weights": "ImageNet-1k classifier, not trained further"}


@dataclass(frozen=True)
class ModelCard:
    """What model.json says: everything needed to build the localizer again, and how it came to be."""

    localizer: str
    backbone: str
    objective: Objective
    classes: list[dict[str, Any]]  # [{"id": 1, "name": "dog"}, ...] in the order of the logits
    input_size: int
    normalisation: dict[str, Any]
    options: dict[str, Any] = field(default_factory=dict)
    training: dict[str, Any] = field(default_factory=dict)
    weights_sha256: str = ""

    @property
    def class_names(self) -> list[str]:
        """In the order of the logits."""
        return [str(one["name"]) for one in self.classes]


def build_localizer(card: ModelCard, *, weights: str = "none") -> tuple[Localizer, nn.Linear | None]:
    """A fresh localizer for the card, and the backbone's ImageNet classifier where it has one."""
    backbone, linear = backbones.build(card.backbone, weights=weights)
    kind = cast(Any, localizer_named(card.localizer))
    return kind(backbone, len(card.classes), **card.options), linear


def save_model(folder: Path, localizer: Localizer, card: ModelCard) -> ModelCard:
    """Write the weights, then model.json with their SHA-256; gives the card as written."""
    tensors = {name: value.detach().cpu().contiguous() for name, value in localizer.state_dict().items()}
    with whole_file(folder / WEIGHTS_FILE) as temporary:
        save_file(tensors, temporary)
    digest = sha256_of(folder / WEIGHTS_FILE)
    written = ModelCard(**{**asdict(card), "weights_sha256": digest})
    write_json(folder / CARD_FILE, {"format": FORMAT, **asdict(written)})
    return written


def read_card(folder: Path) -> ModelCard:
    """The folder's model.json; raises ModelError when it is no model of ours."""
    path = folder / CARD_FILE
    if not folder.exists():
        raise ModelError(f"No model folder {folder}; train one with `boxmine train`, or give pretrained:BACKBONE.")
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        if values.pop("format") != FORMAT:
            raise KeyError("format")
        return _checked(ModelCard(**values))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise ModelError(
            f"{folder} is not a boxmine model: it needs a {CARD_FILE} as `boxmine train` writes it. "
            "To use plain weights of a backbone, train with --weights FILE."
        ) from None


def _checked(card: ModelCard) -> ModelCard:
    """The card as it is; raises ValueError when a value is of the wrong kind."""
    TypeAdapter(ModelCard).validate_python(asdict(card))
    named = all(isinstance(one.get("id"), int) and isinstance(one.get("name"), str) for one in card.classes)
    if not card.classes or not named or card.input_size < 1:
        raise ValueError("classes or input_size")
    return card


def load_model(folder: Path) -> tuple[Localizer, ModelCard]:
    """The localizer in evaluation mode on the CPU, and its card.

    Raises ModelError, also when the weights are not those whose SHA-256 the card has.
    """
    card = read_card(folder)
    try:
        localizer, _ = build_localizer(card)
    except (ModelError, TypeError) as error:
        raise ModelError(
            f"{folder / CARD_FILE} asks for what this version of boxmine does not have: {error} "
            "Use the version it was trained with, or train it again."
        ) from None
    path = folder / WEIGHTS_FILE
    try:
        if card.weights_sha256 not in ("", sha256_of(path)):
            raise ValueError("its SHA-256 is not the one in model.json; the file is damaged or of another model")
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
    spec = backbones.spec_of(backbone)
    classes = [{"id": number, "name": name} for number, name in enumerate(imagenet_names(), start=1)]
    card = ModelCard(
        localizer=CAM.name, backbone=backbone, objective="single", classes=classes, input_size=spec.input_size,
        normalisation={}, training=_UNTRAINED,
    )  # fmt: skip
    with torch.device("meta"):  # a look at the layers costs neither memory nor a download
        _, linear = backbones.build(backbone)
    if linear is None or linear.out_features != len(classes):
        listed = "efficientnet_lite0, efficientnet_lite1, efficientnet_lite2, resnet50, googlenet, mobilenet_v2"
        raise ModelError(
            f"pretrained:{backbone} cannot mine: its ImageNet classifier is not one linear layer on averaged "
            f"features. Train it on your classes (`boxmine train --backbone {backbone}`), or take one of: {listed}."
        )
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


def put_model(reference: str, folder: Path) -> ModelCard:
    """Bring the model that `reference` names (a folder or pretrained:BACKBONE) into `folder`, and give its card."""
    if reference.startswith(PRETRAINED):
        backbone = reference.removeprefix(PRETRAINED)
        there = read_card(folder) if (folder / CARD_FILE).is_file() else None
        if there is not None and there.training != _UNTRAINED:
            raise ModelError(f"{folder} holds a trained model, not {reference}; give another --out.")
        return there if there is not None and there.backbone == backbone else _put_pretrained(backbone, folder)
    source = Path(reference)
    card = read_card(source)
    if source.resolve() != folder.resolve():
        for name in (WEIGHTS_FILE, CARD_FILE):  # the card last: a folder with a card is complete
            with whole_file(folder / name) as temporary:
                shutil.copyfile(source / name, temporary)
    return card


def _put_pretrained(backbone: str, folder: Path) -> ModelCard:
    return save_model(folder, *pretrained_model(backbone))


def resolve_device(name: str) -> torch.device:
    """'auto' to the GPU where there is one; raises ModelError when the device asked for is not there."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ModelError(f"Device {name!r} cannot be used: {str(error).splitlines()[0]} Try auto or cpu.") from None
    return device


def unknown_classes(names: Mapping[str, int] | Sequence[str], card: ModelCard) -> list[str]:
    """The class names that the model does not know, in order."""
    known = set(card.class_names)
    return [name for name in names if name not in known]
