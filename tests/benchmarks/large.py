"""Large corpora and many shards: what memory and time do when there is more to mine."""

import csv
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from boxmine_apart import Taken
from measuring import ROOT, Figure, device_in_words

from mining.models.card import ModelCard
from mining.models.checkpoint import build_localizer, save_model
from mining.models.device import resolve_device
from mining.synthetic import generate
from tests.factories import register_tiny_backbone, write_model
from tests.prefect_server import run_prefect_server

DIFFERENT = 16  # photos; the files of a corpus are links to these
FEW, MANY = 2_000, 50_000
SHARDS, SHARD_SIZE = 100, 256
ONE_CORE = {**os.environ, "OMP_NUM_THREADS": "1"}  # tiny tensors take longer to share out than to compute


def linked_corpus(folder: Path, images: int, size: tuple[int, int], most_labels: int) -> list[str]:
    """Many images in folders of 1000, with labels and boxes, of few photos; gives the names of their classes.

    size: smallest and largest side in pixels. most_labels: of an image.
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
    """Images of some 80 px and a model of one layer: what is measured is what surrounds a network."""
    classes = linked_corpus(folder, images, (64, 96), most_labels=3)
    with pytest.MonkeyPatch.context() as patch:
        register_tiny_backbone(patch)
        write_model(folder / "model", classes, objective="multi", backbone="tiny")
    return folder


def boxmine(*arguments: object, environment: dict[str, str]) -> Taken:
    command = [sys.executable, Path(__file__).with_name("boxmine_apart.py"), *map(str, arguments)]
    said = subprocess.run(command, env=environment, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True).stdout
    return Taken(**json.loads(said.splitlines()[-1]))


def mined(corpus: Path, run: Path, *options: object, environment: dict[str, str]) -> Taken:
    given = ("--images", corpus / "images", "--labels", corpus / "labels.csv", "--model", corpus / "model")
    return boxmine("mine", *given, "--out", run, "--scales", 1, *options, environment=environment)


def scored(corpus: Path, run: Path) -> Taken:
    return boxmine("score", run, "--truth", corpus / "truth.json", environment=ONE_CORE)


def rss_growth() -> Figure:
    """`boxmine mine` of 50,000 images over one of 2,000: the most memory that the process held."""
    with TemporaryDirectory() as folder:
        few, many = (tiny_corpus(Path(folder) / str(images), images) for images in (FEW, MANY))
        runs = [corpus / "run" for corpus in (few, many)]
        small, large = (mined(corpus, run, environment=ONE_CORE) for corpus, run in zip((few, many), runs, strict=True))
        scores = [scored(corpus, run).peak for corpus, run in zip((few, many), runs, strict=True)]
        home = Path(folder) / "prefect"
        home.mkdir()
        with run_prefect_server(home) as environment:
            flows = [
                mined(few, few / f"run-{size}", "--shard-size", size, environment={**ONE_CORE, **environment}).peak
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
    """What a Prefect flow of 100 shards takes beside the engine, over what the engine takes; from files to COCO JSON.

    The server is there already, and so is torch in the process. The engine mines one class of photos of some 260 px at
    one scale by EfficientNet-Lite0: the quickest there is, so that what is beside it weighs as much as it can.
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
        f"{device_in_words(resolve_device('auto'))}: engine {flow.engine:.0f} s; beside it {before:.1f} s to open the "
        f"run, {1000 * flow.between / len(flow.shards):.0f} ms a shard, {after:.1f} s to close it; with the start of "
        f"a server ({startup:.0f} s) {(beside + startup) / flow.engine:.3f}"
    )
    return Figure(beside / flow.engine, 0.03, "ratio", detail)
