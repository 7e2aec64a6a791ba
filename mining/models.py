"""Models on disk: a folder with weights.safetensors and model.json, and nothing that can run code."""

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, cast

import torch
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
        return ModelCard(**values)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise ModelError(
            f"{folder} is not a boxmine model: it needs a {CARD_FILE} as `boxmine train` writes it. "
            "To use plain weights of a backbone, train with --weights FILE."
        ) from None


def load_model(folder: Path) -> tuple[Localizer, ModelCard]:
    """The localizer in evaluation mode on the CPU, and its card. Raises ModelError."""
    card = read_card(folder)
    localizer, _ = build_localizer(card)
    path = folder / WEIGHTS_FILE
    try:
        tensors = load_file(path)
        localizer.load_state_dict(tensors)
    except (OSError, SafetensorError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise ModelError(f"{path} cannot be loaded as {card.localizer} on {card.backbone}: {reason}") from None
    return localizer.eval(), card


def pretrained_model(backbone: str, weights: str = "imagenet") -> tuple[Localizer, ModelCard]:
    """CAM on the backbone's own ImageNet classifier: no training at all.

    Raises ModelError for a backbone whose ImageNet classifier does not stand on averaged features.
    """
    spec = backbones.spec_of(backbone)
    classes = [{"id": number, "name": name} for number, name in enumerate(imagenet_names(), start=1)]
    card = ModelCard(
        localizer=CAM.name, backbone=backbone, objective="single", classes=classes, input_size=spec.input_size,
        normalisation={}, training={"weights": "ImageNet-1k classifier, not trained further"},
    )  # fmt: skip
    localizer, linear = build_localizer(card, weights=weights)
    if linear is None or linear.out_features != len(classes):
        listed = "efficientnet_lite0, efficientnet_lite1, efficientnet_lite2, resnet50, googlenet, mobilenet_v2"
        raise ModelError(
            f"pretrained:{backbone} cannot mine: its ImageNet classifier is not one linear layer on averaged "
            f"features. Train it on your classes (`boxmine train --backbone {backbone}`), or take one of: {listed}."
        )
    cast(CAM, localizer).load_linear(linear)
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
        if (folder / CARD_FILE).is_file():
            return read_card(folder)
        return save_model(folder, *pretrained_model(reference.removeprefix(PRETRAINED)))
    source = Path(reference)
    card = read_card(source)
    if source.resolve() != folder.resolve():
        for name in (WEIGHTS_FILE, CARD_FILE):  # the card last: a folder with a card is complete
            with whole_file(folder / name) as temporary:
                shutil.copyfile(source / name, temporary)
    return card


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
