"""Plot the cost of mining against the size of the corpus and of the batches, and by runtime, to SVG files.

    python tests/benchmarks/graphs.py [NUMBERS.json | batch | corpus | runtime ...]

The numbers are measured, all or those that are named, and kept in build/graphs.json; numbers given as a file are only
plotted.
"""

import json
import statistics
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import matplotlib.pyplot as plt
import torch
from large import ONE_THREAD, mined, tiny_corpus
from measuring import ROOT, ROUNDS, describe_device
from mining_speed import ShapeRecorder, forward, synthetic_run

from mining.corpus import read_shard
from mining.engine.miner import Miner
from mining.experiments.cells import scales_text
from mining.models.checkpoint import load_model

BATCHES = (1, 2, 4, 8, 16, 32)
PYRAMIDS = ((1.0,), (1.5,), (1.0, 1.5), (1.0, 1.5, 2.0))
RUNTIMES = {
    "PyTorch, float32": {"runtime": "torch", "precision": "float32"},
    "OpenVINO, float32": {"runtime": "openvino", "precision": "float32"},
    "OpenVINO, bfloat16": {"runtime": "openvino", "precision": "bfloat16"},
}
CORPORA = (1_000, 5_000, 10_000, 20_000, 50_000)
HERE = Path(__file__).parent


def by_batch() -> dict[str, Any]:
    """Measure ms per image at one scale, of the engine and the forward pass alone, for each batch size."""
    rows: dict[str, Any] = {"device": "", "mine": {}, "forward": {}}
    with TemporaryDirectory() as folder:
        base = synthetic_run(Path(folder), "efficientnet_lite0", (1.0,))
        images = read_shard(base.out / "corpus.parquet", 0).to_pylist()
        sides = []
        for size in BATCHES:
            settings = base.model_copy(update={"batch_size": size})
            recorder = ShapeRecorder(load_model(Path(base.model))[0])
            Miner(recorder, load_model(Path(base.model))[1], settings).mine(images)
            miner = Miner(*load_model(Path(base.model)), settings)
            rows["device"] = describe_device(miner.network.device)
            sides.append((size, miner, [torch.randint(0, 256, shape, dtype=torch.uint8) for shape in recorder.shapes]))
        taken: dict[str, dict[int, list[float]]] = {
            name: {size: [] for size in BATCHES} for name in ("mine", "forward")
        }
        for _ in range(ROUNDS + 1):
            for size, miner, tensors in sides:
                started = time.perf_counter()
                miner.mine(images)
                between = time.perf_counter()
                forward(miner, tensors)
                taken["mine"][size].append(between - started)
                taken["forward"][size].append(time.perf_counter() - between)
    for name, found in taken.items():
        rows[name] = {size: 1000 * statistics.median(times[1:]) / len(images) for size, times in found.items()}
    return rows


def by_runtime() -> dict[str, Any]:
    """Measure ms per image of mining with refined maps, by runtime and precision, by pyramid."""
    rows: dict[str, Any] = {name: {} for name in RUNTIMES}
    for scales in PYRAMIDS:
        with TemporaryDirectory() as folder:
            base = synthetic_run(Path(folder), "efficientnet_lite0", scales, has_cells=True)
            images = read_shard(base.out / "corpus.parquet", 0).to_pylist()
            miners = {
                name: Miner(*load_model(Path(base.model)), base.model_copy(update=options))
                for name, options in RUNTIMES.items()
            }
            taken: dict[str, list[float]] = {name: [] for name in miners}
            for _ in range(ROUNDS + 1):
                for name, miner in miners.items():
                    started = time.perf_counter()
                    miner.mine(images)
                    taken[name].append(time.perf_counter() - started)
        for name, times in taken.items():
            rows[name][scales_text(scales)] = 1000 * statistics.median(times[1:]) / len(images)
    return rows


def by_corpus() -> dict[str, Any]:
    """Measure CPU ms per image and peak MB of the whole command with a network of one layer."""
    rows: dict[str, Any] = {"milliseconds": {}, "megabytes": {}}
    for images in CORPORA:
        with TemporaryDirectory() as folder:
            corpus = tiny_corpus(Path(folder) / "corpus", images)
            taken = mined(corpus, corpus / "run", environment=ONE_THREAD)
        rows["milliseconds"][images] = 1000 * taken.computing / images
        rows["megabytes"][images] = taken.peak
    return rows


def draw_runtimes(numbers: dict[str, Any]) -> None:
    """Plot the cost by runtime."""
    figure, axes = plt.subplots(figsize=(6, 3.4))
    width = 0.8 / len(numbers)
    for number, (name, found) in enumerate(numbers.items()):
        places = [position + (number - (len(numbers) - 1) / 2) * width for position in range(len(found))]
        axes.bar_label(axes.bar(places, list(found.values()), width, label=name), fmt="%.0f", fontsize=8)
    axes.set_xticks(range(len(PYRAMIDS)), [scales_text(scales) for scales in PYRAMIDS])
    axes.margins(y=0.1)
    axes.set_xlabel("scales")
    axes.set_ylabel("ms per image")
    axes.set_title("Mining with refined maps, EfficientNet-Lite0, CPU with 2 cores", fontsize=10)
    axes.legend(frameon=False)
    save(figure, ROOT / "docs" / "images" / "cost-by-runtime")


def draw_batches(numbers: dict[str, Any]) -> None:
    """Plot the cost by the size of batches."""
    figure, axes = plt.subplots(figsize=(6, 3.6))
    for name, label in (("mine", "mining, files to boxes"), ("forward", "forward pass alone")):
        found = {int(size): value for size, value in numbers[name].items()}
        axes.plot(list(found), list(found.values()), marker="o", label=label)
    axes.set_xscale("log", base=2)
    axes.set_xticks(BATCHES, [str(size) for size in BATCHES])
    axes.set_ylim(0, 1.15 * axes.get_ylim()[1])
    axes.set_xlabel("images per pass")
    axes.set_ylabel("ms per image")
    axes.set_title(f"EfficientNet-Lite0, one scale ({numbers['device']})", fontsize=10)
    axes.legend(frameon=False)
    save(figure, HERE / "cost-by-batch")


def draw_corpora(numbers: dict[str, Any]) -> None:
    """Plot the cost by the size of the corpus."""
    figure, (time_axes, memory_axes) = plt.subplots(1, 2, figsize=(8, 3.4))
    for axes, name, unit in (
        (time_axes, "milliseconds", "CPU ms per image"),
        (memory_axes, "megabytes", "peak MB"),
    ):
        found = {int(images): value for images, value in numbers[name].items()}
        axes.plot(list(found), list(found.values()), marker="o")
        axes.set_xscale("log")
        axes.set_ylim(0, 1.15 * max(found.values()))
        axes.set_xlabel("images in the corpus")
        axes.set_ylabel(unit)
    figure.suptitle("The whole command with a network of one layer, without imports", fontsize=10)
    save(figure, HERE / "cost-by-corpus")


def save(figure: Any, path: Path) -> None:
    figure.tight_layout()
    figure.savefig(path.with_suffix(".svg"), metadata={"Date": None})
    plt.close(figure)


GRAPHS = {
    "batch": (by_batch, draw_batches),
    "corpus": (by_corpus, draw_corpora),
    "runtime": (by_runtime, draw_runtimes),
}


def main(given: list[str]) -> None:
    """Measure unless numbers are given, and plot."""
    kept = ROOT / "build" / "graphs.json"
    if given and given[0] not in GRAPHS:
        numbers = json.loads(Path(given[0]).read_text())
    else:
        numbers = {name: GRAPHS[name][0]() for name in given or GRAPHS}
        kept.parent.mkdir(exist_ok=True)
        earlier = json.loads(kept.read_text()) if kept.exists() else {}
        kept.write_text(json.dumps({**earlier, **numbers}, indent=2) + "\n")
    plt.rcParams["svg.hashsalt"] = "boxmine"
    for name, found in json.loads(json.dumps(numbers)).items():
        GRAPHS[name][1](found)


if __name__ == "__main__":
    main(sys.argv[1:])
