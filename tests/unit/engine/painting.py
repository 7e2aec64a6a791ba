"""A localizer whose activation maps are the image's colour channels, and small corpora to mine with it."""

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional

from mining.backbones.base import Backbone, BackboneSpec, StageSpec
from mining.backbones.receptive_fields import CellGrid
from mining.config import MineSettings
from mining.engine.outcome import ImageOutcome
from mining.localizers.base import ClassChoice, ClassificationLoss, Localization, Localizer, chosen_classes
from mining.models.card import ModelCard
from mining.models.checkpoint import build_localizer, save_model
from mining.runs.mining_job import plan_mining
from mining.runs.run import Run
from mining.runs.shard_files import part_outcomes
from tests.factories import register_backbone, register_localizer

SHORT_SIDE = 64
CLASSES = {"red": 7, "green": 3, "blue": 5}
ALL = tuple(CLASSES)


@dataclass(frozen=True)
class NoOptions:
    """Options of a localizer that has none."""


class Painted(Localizer):
    """The map of a class is its colour channel, scaled to 0-1, with one cell per pixel.

    The logit of a class is 12 (m - 0.5), where m is the maximum of its channel: a fully coloured pixel gives the
    probability 0.9975, none 0.0025.
    """

    Config = NoOptions
    name: ClassVar[str] = "painted"
    summary: ClassVar[str] = "sees colours"

    def __init__(self, backbone: Backbone, classes: int) -> None:
        super().__init__()
        self.backbone = backbone
        self.register_buffer("white", torch.tensor(255.0))

    def colours(self, images: Tensor) -> Tensor:
        """Return the maps of all classes, (B, 3, H, W)."""
        return self.backbone(images)[-1] / self.white

    def forward(self, images: Tensor) -> Tensor:
        return 12 * ((self.backbone(images)[-1] / self.white).amax(dim=(2, 3)) - 0.5)

    def localize(self, images: Tensor, classes: ClassChoice) -> Localization:
        logits = self(images)
        wanted = chosen_classes(classes, logits)
        maps = self.colours(images)
        return Localization(logits, wanted, torch.stack([one[own] for one, own in zip(maps, wanted, strict=True)]))

    def training_step(self, images: Tensor, targets: Tensor, loss: ClassificationLoss) -> dict[str, Tensor]:
        raise NotImplementedError


class Coarse(Painted):
    """One cell per 16 x 16 pixels, as in a real network."""

    name: ClassVar[str] = "coarse"

    def colours(self, images: Tensor) -> Tensor:
        return functional.avg_pool2d(super().colours(images), 16)


class HalfACellLate(Painted):
    """One cell per 8 x 8 pixels, the first of them 4 pixels from the left border; the last 4 pixels have no cell."""

    name: ClassVar[str] = "half-a-cell-late"

    def colours(self, images: Tensor) -> Tensor:
        return functional.avg_pool2d(super().colours(images)[..., 4:], 8)

    def cell_grid(self, size: tuple[int, int]) -> CellGrid | None:
        return CellGrid(4.0, 8.0, 8.0, 8.0)


class ColourDependsOnScale(Painted):
    """At scale 1 every class's map is the red channel; at any other scale, half the green channel."""

    name: ClassVar[str] = "one-colour-a-scale"

    def colours(self, images: Tensor) -> Tensor:
        red, green, _ = super().colours(images).unbind(dim=1)
        seen = red if images.shape[2] == SHORT_SIDE else green / 2
        return seen[:, None].expand(-1, 3, -1, -1)


class NanOnWhite(Painted):
    """The map of an image with a white pixel holds NaN."""

    name: ClassVar[str] = "overflowing"

    def colours(self, images: Tensor) -> Tensor:
        maps = super().colours(images)
        maps[(maps == 1).all(dim=1).any(dim=(1, 2)), :, 0, 0] = torch.nan
        return maps


def list_painted(patch: pytest.MonkeyPatch) -> None:
    """Register the localizers above, and a backbone that returns the pixels unchanged."""
    for kind in (Painted, Coarse, HalfACellLate, ColourDependsOnScale, NanOnWhite):
        register_localizer(patch, kind)
    pixels = StageSpec([nn.Identity()], (3,), (1,), None, mean=(0.0,) * 3, std=(1 / 255,) * 3)
    register_backbone(patch, BackboneSpec("pixels", SHORT_SIDE, lambda _: pixels, nn.Identity, dict))


Picture = np.ndarray | bytes
Labels = Mapping[str, tuple[str, ...]]
RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)
BOX = (32, 16, 80, 48)


def black(height: int = 64, width: int = 96) -> np.ndarray:
    return np.zeros((height, width, 3), np.uint8)


def scene(
    *things: tuple[tuple[int, int, int, int], tuple[int, int, int]], height: int = 64, width: int = 96
) -> np.ndarray:
    """Return a black image with filled rectangles, each given as half-open xyxy and its colour."""
    pixels = black(height, width)
    for (x0, y0, x1, y1), colour in things:
        pixels[y0:y1, x0:x1] = colour
    return pixels


@dataclass
class ImageResult:
    """The outcome of an image, and its rows in the part."""

    outcome: ImageOutcome
    rows: list[dict[str, Any]]

    @property
    def state(self) -> str:
        return self.outcome.state

    @property
    def boxes(self) -> list[tuple[float, ...]]:
        """The boxes as xyxy."""
        return [(row["x"], row["y"], row["x"] + row["w"], row["y"] + row["h"]) for row in self.rows]

    @property
    def classes(self) -> list[str]:
        return [row["category"] for row in self.rows]

    def without_identity(self) -> tuple[Any, ...]:
        """Return everything that must not depend on the other images of the shard."""
        rows = [{k: v for k, v in row.items() if k not in ("image_id", "file_name")} for row in self.rows]
        return self.state, self.outcome.width, self.outcome.height, rows


def write_corpus(folder: Path, pictures: Mapping[str, Picture], labels: Labels | None) -> dict[str, Any]:
    """Write image files and a CSV of labels; return the settings that name them."""
    for name, picture in pictures.items():
        path = folder / "images" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(picture, bytes):
            path.write_bytes(picture)
        else:
            Image.fromarray(picture).save(path)
    if labels is None:
        return {"images": folder / "images", "labels": "none"}
    with (folder / "labels.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("file_name", "labels"), *((name, "|".join(own)) for name, own in labels.items())])
    return {"images": folder / "images", "labels": folder / "labels.csv"}


def painted_model(folder: Path, localizer: str = "painted", objective: str = "multi") -> Path:
    listed = [{"id": number, "name": name} for name, number in CLASSES.items()]
    card = ModelCard(localizer, "pixels", objective, listed, SHORT_SIDE, {})
    save_model(folder, build_localizer(card)[0], card)
    return folder


def planned_run(folder: Path, pictures: Mapping[str, Picture], labels: Labels | None, **options: Any) -> Run:
    """Return a planned run whose shards can be mined."""
    kind = {name: options.pop(name) for name in ("localizer", "objective") if name in options}
    model = options.pop("model", None) or painted_model(folder / "model", **kind)
    corpus = write_corpus(folder, pictures, labels)
    defaults: dict[str, Any] = {"scales": (1.0,), "device": "cpu", "workers": 2, "refine": "none"}
    settings = MineSettings(**corpus, model=str(model), out=folder / "run", **{**defaults, **options})
    plan_mining(settings)
    return Run(folder / "run")


def results_by_file(run: Run, shard: int = 0) -> dict[str, ImageResult]:
    rows = pq.read_table(run.part(shard)).to_pylist()
    outcomes = part_outcomes(run.part(shard))
    return {o.file_name: ImageResult(o, [row for row in rows if row["image_id"] == o.image_id]) for o in outcomes}


def crowd() -> dict[str, np.ndarray]:
    """Return 14 images in three alternating shapes, each with different rectangles."""
    random = np.random.default_rng(3)
    pictures = {}
    for number in range(14):
        height, width = ((64, 96), (96, 64), (70, 70))[number % 3]
        x, y, w, h = random.integers((0, 0, 10, 10), (30, 30, 33, 33)).tolist()
        colours = [tuple(colour) for colour in random.integers(60, 255, (2, 3)).tolist()]
        things = (((x, y, x + w, y + h), colours[0]), ((width - 12, 0, width, 12), colours[1]))
        pictures[f"{number:02d}.png"] = scene(*things, height=height, width=width)
    return pictures


def comparable(found: dict[str, ImageResult]) -> list[tuple[Any, ...]]:
    return [one.without_identity() for one in found.values()]


def blob(centre: tuple[int, int], wide: float) -> np.ndarray:
    """Return a black image with a red Gaussian blob, larger than the default map side."""
    y, x = np.mgrid[:600, :900]
    pixels = black(600, 900)
    pixels[..., 0] = 255 * np.exp(-((x - centre[0]) ** 2 + (y - centre[1]) ** 2) / (2 * wide**2))
    return pixels


MANY = scene(((4, 4, 28, 28), RED), ((36, 4, 60, 28), (0, 153, 0)), ((68, 36, 92, 60), (0, 0, 102)))
THINGS = {
    "a.png": scene((BOX, RED)),
    "c.png": scene(((2, 2, 30, 30), GREEN), ((40, 8, 90, 60), (0, 153, 0))),
    "e.png": MANY,
}
