"""Large corpora and many shards: how memory and time grow."""

import csv
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from boxmine_process import CommandCost
from measuring import ROOT, Figure, describe_device

from mining.models.card import ModelCard
from mining.models.checkpoint import build_localizer, save_model
from mining.models.device import resolve_device
from mining.synthetic import generate
from tests.factories import register_tiny_backbone, write_model
from tests.prefect_server import run_prefect_server

DIFFERENT = 16  # images; the files of a corpus are links to these
FEW, MANY = 2_000, 50_000
SHARDS, SHARD_SIZE = 100, 256
ONE_THREAD = {**os.environ, "OMP_NUM_THREADS": "1"}  # splitting tiny tensors takes longer than computing


def linked_corpus(folder: Path, images: int, size: tuple[int, int], most_labels: int) -> list[str]:
    """Link many images to a few files, in folders of 1000, with labels and boxes.

    Args:
        folder: Where the corpus is written.
        images: Number of links.
        size: Smallest and largest side in px.
        most_labels: Most labels per image.

    Returns:
        The class names.
    """
    generate(folder / "different", images=DIFFERENT, seed=0, size=size)
    with (folder / "different" / "labels.csv").open(newline="") as file:
        photos = [(row["file_name"], row["labels"].split("|")[:most_labels]) for row in csv.DictReader(file)]
    truth = json.loads((folder / "different" / "truth.json").read_text())
    boxes = [[box for box in truth["annotations"] if box["image_id"] == image["id"]] for image in truth["images"]]
    rows, listed, drawn = ["file_name,labels"], [], []
    for number in range(images):
        photo = number % DIFFERENT
        name = f"{number // 1000:03d}/{number:07d}.jpg"
        (folder / "images" / name).parent.mkdir(parents=True, exist_ok=True)
        os.link(folder / "different" / "images" / photos[photo][0], folder / "images" / name)
        rows.append(f"{name},{'|'.join(photos[photo][1])}")
        listed.append({**truth["images"][photo], "id": number, "file_name": name})
        drawn += [{**box, "id": len(drawn) + one, "image_id": number} for one, box in enumerate(boxes[photo], start=1)]
    (folder / "labels.csv").write_text("\n".join(rows) + "\n")
    (folder / "truth.json").write_text(json.dumps({**truth, "images": listed, "annotations": drawn}))
    return sorted({name for _, labels in photos for name in labels})


def tiny_corpus(folder: Path, images: int) -> Path:
    """Write images of some 80 px and a model of one layer, to measure everything but the network."""
    classes = linked_corpus(folder, images, (64, 96), most_labels=3)
    with pytest.MonkeyPatch.context() as patch:
        register_tiny_backbone(patch)
        write_model(folder / "model", classes, objective="multi", backbone="tiny")
    return folder


def boxmine(*arguments: object, environment: dict[str, str]) -> CommandCost:
    command = [sys.executable, Path(__file__).with_name("boxmine_process.py"), *map(str, arguments)]
    said = subprocess.run(command, env=environment, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True).stdout
    return CommandCost(**json.loads(said.splitlines()[-1]))


def mined(corpus: Path, run: Path, *options: object, environment: dict[str, str]) -> CommandCost:
    given = ("--images", corpus / "images", "--labels", corpus / "labels.csv", "--model", corpus / "model")
    return boxmine("mine", *given, "--out", run, "--scales", 1, *options, environment=environment)


def scored(corpus: Path, run: Path) -> CommandCost:
    return boxmine("score", run, "--truth", corpus / "truth.json", environment=ONE_THREAD)


def rss_growth() -> Figure:
    """Peak memory of `boxmine mine` with 50,000 images over that with 2,000."""
    with TemporaryDirectory() as folder:
        few, many = (tiny_corpus(Path(folder) / str(images), images) for images in (FEW, MANY))
        runs = [corpus / "run" for corpus in (few, many)]
        small, large = (
            mined(corpus, run, environment=ONE_THREAD) for corpus, run in zip((few, many), runs, strict=True)
        )
        scores = [scored(corpus, run).peak for corpus, run in zip((few, many), runs, strict=True)]
        home = Path(folder) / "prefect"
        home.mkdir()
        with run_prefect_server(home) as environment:
            flows = [
                mined(few, few / f"run-{size}", "--shard-size", size, environment={**ONE_THREAD, **environment}).peak
                for size in (FEW // 20, FEW // 200)
            ]
    detail = (
        f"{small.peak:.0f} to {large.peak:.0f} MB, without imports {small.peak - small.imports:.0f} to "
        f"{large.peak - large.imports:.0f}; "
        f"score {scores[0]:.0f} to {scores[1]:.0f} MB; "
        f"as a Prefect flow of 20 and 200 shards {flows[0]:.0f} and {flows[1]:.0f} MB"
    )
    return Figure(large.peak / small.peak, 1.10, "ratio", detail)


def orchestration() -> Figure:
    """Seconds of a Prefect flow of 100 shards outside the engine, over those of the engine; from files to COCO JSON.

    The server runs already, and torch is imported. The engine mines one class of images of some 260 px at one scale
    with EfficientNet-Lite0, the fastest setting, so that the overhead weighs as much as it can.
    """
    with TemporaryDirectory() as folder:
        corpus, home = Path(folder) / "corpus", Path(folder) / "prefect"
        names = linked_corpus(corpus, SHARDS * SHARD_SIZE, (224, 300), most_labels=1)
        classes = [{"id": number, "name": name} for number, name in enumerate(names, start=1)]
        card = ModelCard("cam", "efficientnet_lite0", "multi", classes, 224, {})
        save_model(corpus / "model", build_localizer(card, weights="imagenet")[0], card)
        home.mkdir()
        started = time.perf_counter()
        with run_prefect_server(home) as environment:
            startup = time.perf_counter() - started
            flow = mined(corpus, corpus / "run", "--shard-size", SHARD_SIZE, environment=environment)
    before, after = flow.shards[0][0], flow.seconds - flow.shards[-1][1]
    beside = flow.seconds - flow.engine
    detail = (
        f"{describe_device(resolve_device('auto'))}: engine {flow.engine:.0f} s; beside it {before:.1f} s to open the "
        f"run, {1000 * flow.between / len(flow.shards):.0f} ms a shard, {after:.1f} s to close it; with the start of "
        f"a server ({startup:.0f} s) {(beside + startup) / flow.engine:.3f}"
    )
    return Figure(beside / flow.engine, 0.03, "ratio", detail)
