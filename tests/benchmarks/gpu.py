"""Mining on a GPU: images per second, and the share of the time in which the GPU is busy, or runs the network alone."""

import csv
import os
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from measuring import Figure
from mining_speed import read_rows, synthetic_run

from mining.config import MineSettings
from mining.corpus import read_shard
from mining.engine.miner import Miner
from mining.models.checkpoint import load_model
from mining.runs.mining_job import plan_mining
from tasks.progress import Stage
from tasks.runners import runner_named

IMAGES, COPIES = 128, 8
SHARD_SIZE = 64
SCALES = (1.0, 1.5)
PROCESSES = 4


class TimedStage(Stage):
    """Remembers when how many images were done."""

    def __init__(self, total: int) -> None:
        super().__init__("mine", total)
        self.moments: list[tuple[float, int]] = []

    def advance(self, count: int, text: str = "") -> None:
        super().advance(count, text)
        self.moments.append((time.perf_counter(), count))

    def images_per_second(self) -> float:
        """From the first message to the last, without the start of the processes."""
        (began, first), *later = self.moments
        return (sum(count for _, count in self.moments) - first) / (later[-1][0] - began)


def gpu(backbone: str) -> Figure | str:
    """Mine files with labels to refined boxes with curves, in one process, and in several that share the GPU.

    Weights are random. The first run, in which networks are prepared for each shape of a batch, is in the detail.
    """
    if not torch.cuda.is_available():
        return "needs a GPU"
    with TemporaryDirectory() as folder:
        settings = large_run(Path(folder), backbone)
        rows = [row for shard in range(IMAGES * COPIES // SHARD_SIZE) for row in shard_rows(settings, shard)]
        miner = Miner(*load_model(Path(settings.model)), settings)
        miner.mine(rows[:1])  # compiles the extraction of regions
        started = time.perf_counter()
        miner.mine(rows)
        first = time.perf_counter() - started
        miner.mine(rows)
        timing = miner.timing
        assert timing is not None
        busy = 1 - timing.waiting / timing.seconds
        network = timing.stages["network"] / timing.seconds
        device, batch_size = miner.network.compute.describe(), miner.network.batch_size
        del miner
        torch.cuda.empty_cache()
        stage = TimedStage(len(rows))
        runner_named("processes")(plan_mining(settings), settings, stage)
    rate = len(rows) / timing.seconds
    detail = (
        f"{device}, {os.cpu_count()} cores, batches of {batch_size}: GPU busy {100 * busy:.0f} % of the time, with the "
        f"network {100 * network:.0f} %, which alone would pass {len(rows) / timing.stages['network']:.0f} images/s; "
        f"first run {first:.1f} s for {len(rows)} images; in {PROCESSES} processes {stage.images_per_second():.0f}"
    )
    return Figure(rate, None, "images/s", detail, higher_is_better=True)


def large_run(folder: Path, backbone: str) -> MineSettings:
    """Plan a run of COPIES copies of each of IMAGES images."""
    settings = synthetic_run(folder, backbone, SCALES, has_cells=True, images=IMAGES)
    listing = folder / "corpus" / "labels.csv"
    listed = read_rows(listing)
    with (folder / "copies.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, listed[0])
        writer.writeheader()
        for row in listed:
            writer.writerow(row)
            for copy in range(1, COPIES):
                name = f"{copy}-{row['file_name']}"
                (settings.images / name).hardlink_to(settings.images / row["file_name"])
                writer.writerow({**row, "file_name": name})
    settings = settings.model_copy(
        update={
            "labels": folder / "copies.csv", "out": folder / "large", "shard_size": SHARD_SIZE,
            "runner_workers": PROCESSES,
        }
    )  # fmt: skip
    plan_mining(settings)
    return settings


def shard_rows(settings: MineSettings, shard: int) -> list[dict[str, object]]:
    return read_shard(settings.out / "corpus.parquet", shard).to_pylist()
