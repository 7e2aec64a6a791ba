"""The engine against the forward pass of its backbone, and the adaptive pyramid against the fixed one."""

import csv
import os
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from gradients import BUNDLED, ROUNDS
from measuring import ROOT, Figure, compare_alternately, describe_device

from mining.backbones.build import build
from mining.config import MineSettings, ScoreSettings, TrainSettings
from mining.corpus import read_shard, shard_count
from mining.engine.miner import Miner
from mining.evaluation.job import score
from mining.localizers.base import Localizer
from mining.localizers.cell_classifier import cell_spec
from mining.models.card import ModelCard
from mining.models.checkpoint import build_localizer, load_model, save_model
from mining.runs.mining_job import finish_mining, plan_mining
from mining.runs.part_origins import PartOrigins
from mining.runs.run import Run
from mining.runs.shard_files import write_part
from mining.synthetic import generate
from mining.training.job import train

DATA = Path(os.environ.get("BOXMINE_DATA", ROOT.parent / "shared" / "data"))
IMAGES = 32
THREE = (1.0, 1.5, 2.0)
STABLE = 0.65  # as in the documentation


class ShapeRecorder(Localizer):
    """A localizer that records the shapes of its batches."""

    def __init__(self, inner: Localizer) -> None:
        super().__init__()
        self.backbone = inner.backbone
        self.inner = inner
        self.shapes: list[torch.Size] = []

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.inner(images)

    def localize(self, images: torch.Tensor, classes: Any) -> Any:
        self.shapes.append(images.shape)
        return self.inner.localize(images, classes)

    def training_step(self, *_: Any) -> dict[str, torch.Tensor]:
        raise AssertionError("not trained here")

    parameter_groups = training_step  # type: ignore[assignment]


def mine_over_forward(backbone: str, scales: tuple[float, ...], goal: float) -> Figure:
    """From JPEG files with labels to Parquet parts, over the backbone's forward passes on tensors of the same shapes.

    The head has random weights, and so has a backbone whose weights would have to be downloaded.
    """
    with TemporaryDirectory() as folder:
        settings = synthetic_run(Path(folder), backbone, scales)
        rows = read_shard(settings.out / "corpus.parquet", 0).to_pylist()
        localizer, card = load_model(Path(settings.model))
        recorder = ShapeRecorder(localizer)
        Miner(recorder, card, settings).mine(rows)
        miner = Miner(localizer, card, settings)
        tensors = [
            torch.randint(0, 256, shape, dtype=torch.uint8, device=miner.network.device) for shape in recorder.shapes
        ]

        def mine() -> None:
            write_part(Path(folder) / "part.parquet", miner.mine(rows), Path(folder) / "curves.parquet", miner.timing)

        ratio, mined, passed = compare_alternately(mine, lambda: forward(miner, tensors), ROUNDS[backbone])
    detail = f"{describe_device(miner.network.device)}: {1000 * mined / IMAGES:.0f} ms per image, forward {1000 * passed / IMAGES:.0f}"
    return Figure(ratio, goal, "ratio", detail)


def refined_over_plain(backbone: str, scales: tuple[float, ...]) -> Figure:
    """Mining with maps that a cell classifier refines, over mining with the maps as they are; both have random heads."""
    with TemporaryDirectory() as folder:
        settings = synthetic_run(Path(folder), backbone, scales, has_cells=True)
        rows = read_shard(settings.out / "corpus.parquet", 0).to_pylist()
        refined, plain = (
            Miner(*load_model(Path(settings.model)), settings.model_copy(update={"refine": refine}))
            for refine in ("cells", "none")
        )
        ratio, *seconds = compare_alternately(
            lambda: refined.mine(rows), lambda: plain.mine(rows), ROUNDS[backbone] // 2
        )
    with_cells, without = (f"{1000 * one / IMAGES:.0f}" for one in seconds)
    detail = f"{describe_device(plain.network.device)}: {with_cells} ms per image, not refined {without}"
    return Figure(ratio, 1.1, "ratio", detail)


def synthetic_run(folder: Path, backbone: str, scales: tuple[float, ...], *, has_cells: bool = False) -> MineSettings:
    """Plan a run of labelled images of 375 to 500 px."""
    corpus, model = folder / "corpus", folder / "model"
    generate(corpus, images=IMAGES, seed=0, size=(375, 500))
    names = sorted({name for row in read_rows(corpus / "labels.csv") for name in row["labels"].split("|")})
    classes = [{"id": number, "name": name} for number, name in enumerate(names, start=1)]
    card = ModelCard("cam", backbone, "multi", classes, 224, {})
    torch.manual_seed(0)
    if has_cells:
        card = replace(card, cells=cell_spec(build(backbone)[0]))
    save_model(model, build_localizer(card, weights="imagenet" if backbone in BUNDLED else "none")[0], card)
    settings = MineSettings(
        images=corpus / "images",
        labels=corpus / "labels.csv",
        model=str(model),
        out=folder / "run",
        scales=scales,
        refine=None if has_cells else "none",
    )
    plan_mining(settings)
    return settings


def forward(miner: Miner, tensors: list[torch.Tensor]) -> None:
    """Run the backbone alone."""
    backbone, device = miner.network.localizer.backbone, miner.network.device
    with torch.inference_mode(), torch.autocast(device.type, enabled=device.type == "cuda"):
        for images in tensors:
            backbone(images)
    if device.type == "cuda":
        torch.cuda.synchronize()


def read_rows(listing: Path) -> list[dict[str, str]]:
    with listing.open(newline="") as file:
        return list(csv.DictReader(file))


# --- the adaptive pyramid --------------------------------------------------------------------------------------------


def adaptive() -> Figure | str:
    """Pixels through the network for the test images of voc-mini, adaptive over fixed pyramid.

    `cam` on EfficientNet-Lite0, trained on the training images for six epochs. The detail has CorLoc, and the seconds
    of the network's layers and of the whole.
    """
    dataset = DATA / "voc-mini"
    if not dataset.is_dir():
        return f"no images at {dataset}: set BOXMINE_DATA"
    with TemporaryDirectory() as folder:
        place = Path(folder)
        photos = dataset / "images"
        train(TrainSettings(images=photos, labels=dataset / "train.csv", out=place / "model", epochs=6))
        runs = []
        for least in (None, STABLE):
            settings = MineSettings(
                images=photos, labels=dataset / "test.csv", model=str(place / "model"), out=place / str(least),
                scales=THREE, adaptive=least,
            )  # fmt: skip
            runs.append(measure_run(settings, dataset / "instances_test.json"))
    fixed, saving = runs
    lost = 100 * (fixed.corloc - saving.corloc)
    detail = (
        f"{describe_device(torch.device('cpu'))}: CorLoc {100 * saving.corloc:.1f}, fixed {100 * fixed.corloc:.1f} %; "
        f"at IoU 0.7 {100 * saving.at_seven:.1f}, fixed {100 * fixed.at_seven:.1f}; layers {saving.layers:.1f} s, fixed "
        f"{fixed.layers:.1f}; all {saving.seconds:.1f} s, fixed {fixed.seconds:.1f}"
    )
    return Figure(saving.pixels / fixed.pixels, 0.5, "ratio", detail + (" MISSED" if lost > 1 else ""))


@dataclass(frozen=True)
class Cost:
    """The cost and quality of a run.

    Attributes:
        pixels: Pixels through the network.
        seconds: Seconds of mining.
        layers: Seconds of the network's layers.
        corloc: CorLoc at IoU 0.5.
        at_seven: CorLoc at IoU 0.7.
    """

    pixels: int
    seconds: float
    layers: float
    corloc: float
    at_seven: float


def measure_run(settings: MineSettings, truth: Path) -> Cost:
    """Mine and score a run."""
    plan_mining(settings)
    run = Run(settings.out)
    localizer, card = load_model(run.model, settings)
    recorder = ShapeRecorder(localizer)
    miner = Miner(recorder, card, settings)
    for shard in range(shard_count(run.corpus)):
        part, curves = run.files_of(shard, curves=True)
        outcomes = miner.mine(read_shard(run.corpus, shard).to_pylist())
        write_part(part, outcomes, curves, miner.timing, PartOrigins(run).of(shard))
    timing = finish_mining(Run(settings.out)).timing
    assert timing is not None
    scores = score(ScoreSettings(run=settings.out, truth=truth))
    pixels = sum(count * height * width for count, _, height, width in recorder.shapes)
    corloc = scores["corloc"]
    return Cost(pixels, timing.seconds, timing.stages["network"], corloc["value"], corloc["at_0.7"])
