"""Small images, models and registry entries that many tests share."""

from collections.abc import Collection, Iterable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from mining.backbones.base import BackboneSpec, StageSpec
from mining.backbones.registry import BACKBONES, BackboneEntry
from mining.localizers.base import Localizer
from mining.localizers.registry import LOCALIZERS, LocalizerEntry
from mining.models.card import ModelCard
from mining.models.checkpoint import build_localizer, save_model


def slow_except(fast: Collection[Any], values: Iterable[Any]) -> list[Any]:
    """Return the values of a parametrized test as parameters that are slow, except for some."""
    return [pytest.param(value, marks=() if value in fast else pytest.mark.slow) for value in values]


def register_backbone(patch: pytest.MonkeyPatch, spec: BackboneSpec) -> None:
    """Register a backbone that a test defines."""
    entry = BackboneEntry(spec.input_size, "for tests", lambda _: spec, weights="none", licence="none")
    patch.setitem(BACKBONES, spec.name, entry)


def register_tiny_backbone(patch: pytest.MonkeyPatch, name: str = "tiny") -> None:
    """Register a backbone: one convolution and one batch norm, with an input size of 32 px."""

    def build_network() -> nn.Module:
        return nn.Sequential(nn.Conv2d(3, 8, 3, stride=4, padding=1), nn.BatchNorm2d(8), nn.ReLU())

    def split_into_stages(network: nn.Module) -> StageSpec:
        return StageSpec([network], (8,), (4,), None, input_size=32)

    register_backbone(patch, BackboneSpec(name, 32, split_into_stages, build_network, dict))


def register_staged_backbone(patch: pytest.MonkeyPatch) -> None:
    """Register the backbone 'staged': three stages with batch norm, of strides 4, 8 and 16."""

    def build_network() -> nn.Module:
        widths = (3, 16, 24, 32)
        return nn.Sequential(
            *(
                nn.Sequential(
                    nn.Conv2d(before, after, 3 if stage else 5, stride=2 if stage else 4, padding=1 if stage else 2),
                    nn.BatchNorm2d(after),
                    nn.ReLU(),
                )
                for stage, (before, after) in enumerate(pairwise(widths))
            )
        )

    def split_into_stages(network: nn.Module) -> StageSpec:
        return StageSpec(list(network), (16, 24, 32), (4, 8, 16), None, input_size=64)

    register_backbone(patch, BackboneSpec("staged", 64, split_into_stages, build_network, dict))


def register_localizer(patch: pytest.MonkeyPatch, kind: type[Localizer]) -> None:
    """Register a localizer that a test module defines."""
    patch.setitem(LOCALIZERS, kind.name, LocalizerEntry(kind.__module__, kind.__qualname__, "for tests", "none"))


def write_model(
    folder: Path, classes: Sequence[str], *, objective: str = "single", backbone: str = "efficientnet_lite0"
) -> Path:
    """Save a model of random weights and an input size of 64 px, which keeps tests fast."""
    listed = [{"id": number, "name": name} for number, name in enumerate(classes, start=1)]
    card = ModelCard("cam", backbone, objective, listed, input_size=64, normalisation={})  # type: ignore[arg-type]
    torch.manual_seed(0)
    save_model(folder, build_localizer(card)[0], card)
    return folder


def image_with_rectangle(seed: int, *, height: int = 96, width: int = 128) -> np.ndarray:
    """Draw one bright rectangle on noise: (height, width, 3) uint8, other noise for each seed."""
    pixels = np.random.default_rng(seed).integers(0, 90, (height, width, 3), np.uint8)
    pixels[height // 5 : height * 3 // 4, width // 4 : width * 7 // 10] = (230, 200, 40)
    return pixels


def write_photos(folder: Path, names: Sequence[str]) -> Path:
    """Write one JPEG per name, no two alike."""
    folder.mkdir(parents=True, exist_ok=True)
    for seed, name in enumerate(names):
        Image.fromarray(image_with_rectangle(seed)).save(folder / name, "JPEG")
    return folder


def write_example(folder: Path) -> Path:
    """Write two images of a cat and a dog to photos/, labels.csv, and a model of these classes to model/."""
    write_photos(folder / "photos", ["a.jpg", "b.jpg"])
    write_model(folder / "model", ("cat", "dog"))
    (folder / "labels.csv").write_text("file_name,labels\na.jpg,cat\nb.jpg,dog\n")
    return folder
