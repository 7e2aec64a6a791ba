"""A training with a frozen backbone against the passes of its backbone."""

import csv
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from measuring import Figure

from mining.backbones.build import build
from mining.config import TrainSettings
from mining.config.execution import available_cores
from mining.models.device import resolve_device
from mining.runtimes.choice import choose_compute
from mining.runtimes.stage_features import prepare_stages
from mining.synthetic import generate
from mining.training.frozen_features import feature_precision
from mining.training.job import train

BACKBONE, IMAGES, EPOCHS, SIDE, ROUNDS = "efficientnet_lite0", 256, 12, 224, 3
AT_ONCE_ON_GPU = 32


def frozen_training() -> Figure:
    """12 epochs of `cam` with a frozen EfficientNet-Lite0, over the backbone's bare passes for one epoch.

    The epochs are those of `boxmine train` with its defaults, from JPEG files of 375 to 500 px to the trained head;
    without the cell classifier, and without what is done once whatever the number of images: listing, imports. The
    passes are those of the runtime that trains, at the training's input size, as many at a time as there are cores.
    """
    with TemporaryDirectory() as folder:
        corpus = Path(folder) / "corpus"
        generate(corpus, images=IMAGES, seed=0, size=(375, 500))
        with (corpus / "labels.csv").open(newline="") as file:
            images = sum(1 for _ in csv.DictReader(file))
        run, cores, name = bare_passes(images)
        run()
        ratios = []
        for number in range(1 + ROUNDS):
            trained = seconds_of_training(corpus, Path(folder) / f"model-{number}")
            started = time.perf_counter()
            run()
            passed = time.perf_counter() - started
            if number:  # the first one converts the network
                ratios.append((trained / passed, trained, passed))
    value, trained, passed = statistics.median_low(ratios)
    detail = f"{name}, {cores} at a time: {images} images, {trained:.1f} s, bare passes {passed:.1f} s"
    return Figure(value, 2.5, "ratio", detail)


def seconds_of_training(corpus: Path, out: Path) -> float:
    """Train, and return the seconds of all epochs and of the features that they start from."""
    settings = TrainSettings(
        images=corpus / "images", labels=corpus / "labels.csv", out=out, backbone=BACKBONE, epochs=EPOCHS,
        patience=EPOCHS, validation_share=0, cells=False,
    )  # fmt: skip
    return train(settings).seconds


def bare_passes(images: int) -> tuple[Callable[[], None], int, str]:
    """Return a function that runs the backbone once for each of so many images, how many at a time, and a name."""
    device = resolve_device("auto")
    on_cpu = device.type == "cpu"
    cores = available_cores() if on_cpu else AT_ONCE_ON_GPU
    compute = choose_compute(device, "auto", feature_precision("auto"))
    backbone = build(BACKBONE, weights="imagenet")[0]
    stages, compute = prepare_stages(backbone, [len(backbone.stages) - 1], compute, threads=cores)
    one = 1 if on_cpu else AT_ONCE_ON_GPU
    pixels = torch.randint(0, 256, (one, 3, SIDE, SIDE), dtype=torch.uint8, device=device)
    pool = ThreadPoolExecutor(cores if on_cpu else 1)

    def run() -> None:
        list(pool.map(lambda _: stages(pixels)[0].shape, range(-(-images // one))))
        if not on_cpu:
            torch.cuda.synchronize()

    return run, cores, compute.describe()
