"""The engine against the forward pass of its backbone, and the adaptive pyramid against the fixed one."""

import csv
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from gradients import BUNDLED, ROUNDS
from measuring import ROOT, Figure, compare_alternately, describe_device

from mining.backbones.build import build
from mining.config import MineSettings, ScoreSettings, TrainSettings
from mining.config.execution import available_cores
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
BUSY_ROUNDS, COLD_STARTS = 5, 5
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


def mine_over_torch_forward(backbone: str, scales: tuple[float, ...], goal: float) -> Figure:
    """From JPEG files with labels to Parquet parts with curves, over torch's forward passes at its better thread count.

    The head has random weights, and so has a backbone whose weights would have to be downloaded.
    """
    with TemporaryDirectory() as folder:
        miner, mine, tensors = mining_and_tensors(Path(folder), backbone, scales)
        cores = torch.get_num_threads()
        floors = {threads: partial(forward, miner, tensors, threads) for threads in sorted({1, cores})}
        better = min(floors, key=lambda threads: seconds_of(floors[threads]))
        ratio, mined, passed = compare_alternately(mine, floors[better], ROUNDS[backbone])
        torch.set_num_threads(cores)
    name = miner.network.compute.describe()
    detail = (
        f"{name}: {1000 * mined / IMAGES:.0f} ms per image, torch with {better} threads {1000 * passed / IMAGES:.0f}"
    )
    return Figure(ratio, goal, "ratio", detail)


def mine_over_runtime_forward(backbone: str, scales: tuple[float, ...], goal: float) -> Figure:
    """The same over the passes of the runtime that mines, as many at a time as mining has."""
    with TemporaryDirectory() as folder:
        miner, mine, tensors = mining_and_tensors(Path(folder), backbone, scales)
        with ThreadPoolExecutor(miner.workers) as pool:

            def passes() -> None:
                list(pool.map(miner.network.localizer.last_features, tensors))

            ratio, mined, passed = compare_alternately(mine, passes, ROUNDS[backbone])
    name = miner.network.compute.describe()
    detail = f"{name}: {1000 * mined / IMAGES:.0f} ms per image, passes alone {1000 * passed / IMAGES:.0f}"
    return Figure(ratio, goal, "ratio", detail)


def mining_and_tensors(
    folder: Path, backbone: str, scales: tuple[float, ...]
) -> tuple[Miner, Callable[[], None], list[torch.Tensor]]:
    """Return a miner, the function that mines a shard with it, and tensors of the shapes of its passes."""
    settings = synthetic_run(folder, backbone, scales)
    rows = read_shard(settings.out / "corpus.parquet", 0).to_pylist()
    localizer, card = load_model(Path(settings.model))
    recorder = ShapeRecorder(localizer)
    Miner(recorder, card, settings).mine(rows)
    miner = Miner(*load_model(Path(settings.model)), settings)
    tensors = [
        torch.randint(0, 256, shape, dtype=torch.uint8, device=miner.network.device) for shape in recorder.shapes
    ]

    def mine() -> None:
        write_part(folder / "part.parquet", miner.mine(rows), folder / "curves.parquet", miner.timing)

    return miner, mine, tensors


def seconds_of(function: Callable[[], Any]) -> float:
    """Return the seconds of the second call."""
    function()
    started = time.perf_counter()
    function()
    return time.perf_counter() - started


def busy() -> Figure:
    """Images per second while as many other processes as cores are busy, over images per second without them."""
    with TemporaryDirectory() as folder:
        _, mine, _ = mining_and_tensors(Path(folder), "efficientnet_lite0", (1.0, 1.5))
        mine()
        ratios = []
        for _ in range(BUSY_ROUNDS):
            alone = seconds_of(mine)
            spinning = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(available_cores())]
            try:
                disturbed = seconds_of(mine)
            finally:
                for process in spinning:
                    process.kill()
                    process.wait()
            ratios.append((alone / disturbed, alone, disturbed))
    value, alone, disturbed = sorted(ratios)[len(ratios) // 2]
    detail = f"{available_cores()} cores: {1000 * alone / IMAGES:.0f} ms per image, disturbed {1000 * disturbed / IMAGES:.0f}"
    return Figure(value, 0.45, "ratio", detail, higher_is_better=True)


def cold_start() -> Figure:
    """Seconds of `boxmine mine` of one photo, from the start of the process to its end, when it was run before."""
    with TemporaryDirectory() as folder:
        place = Path(folder)
        settings = synthetic_run(place, "efficientnet_lite0", (1.0, 1.5), has_cells=True)
        photo = next((place / "corpus" / "images").iterdir())
        (place / "photos").mkdir()
        shutil.copy(photo, place / "photos")
        taken = []
        for number in range(1 + COLD_STARTS):
            command = [
                sys.executable, "-m", "boxmine", "mine", "--images", str(place / "photos"), "--model", settings.model,
                "--out", str(place / f"cold-{number}"),
            ]  # fmt: skip
            started = time.perf_counter()
            subprocess.run(command, check=True, capture_output=True)
            taken.append(time.perf_counter() - started)
    detail = f"first time {taken[0]:.1f} s, then {min(taken[1:]):.1f} to {max(taken[1:]):.1f}"
    return Figure(statistics.median(taken[1:]), 4, "s", detail)


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


def synthetic_run(
    folder: Path, backbone: str, scales: tuple[float, ...], *, has_cells: bool = False, images: int = IMAGES
) -> MineSettings:
    """Plan a run of labelled images of 375 to 500 px."""
    corpus, model = folder / "corpus", folder / "model"
    generate(corpus, images=images, seed=0, size=(375, 500))
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


def forward(miner: Miner, tensors: list[torch.Tensor], threads: int | None = None) -> None:
    """Run the backbone alone, in torch."""
    backbone, device = miner.network.localizer.backbone, miner.network.device
    torch.set_num_threads(threads or torch.get_num_threads())
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
