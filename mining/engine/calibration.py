"""Quantize the network of a run to int8, with images of its own corpus."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from mining.config import MineSettings
from mining.corpus import iter_shards, read_summary
from mining.engine.miner import Miner
from mining.errors import ImageError, ModelError
from mining.models.card import INT8_FILE
from mining.models.checkpoint import load_model
from mining.models.device import resolve_device
from mining.runtimes.quantization import quantize_localizer
from mining.runtimes.requirements import refuse_int8_elsewhere

CALIBRATION_IMAGES = 128


def quantize_for_run(model: Path, settings: MineSettings, corpus: Path) -> int:
    """Quantize a model to int8 and write the networks into its folder.

    Args:
        model: The run's model folder.
        settings: Settings of the run.
        corpus: The corpus table, of which evenly spaced images show the ranges of the activations.

    Returns:
        The number of images that were used.

    Raises:
        ModelError: The model cannot be quantized, or no image can be read.
    """
    on_cpu = resolve_device(settings.device).type == "cpu"
    refuse_int8_elsewhere(settings.runtime, settings.precision, on_cpu=on_cpu)
    in_torch = settings.model_copy(update={"device": "cpu", "runtime": "torch", "precision": "float32"})
    miner = Miner(*load_model(model, in_torch), in_torch)
    images = list(_calibration_images(miner, corpus))
    if not images:
        raise ModelError("--precision int8: the network is quantized with the run's images, and none can be read.")
    quantize_localizer(miner.network.localizer, miner.network.recorder, images, model / INT8_FILE)
    return len(images)


def _calibration_images(miner: Miner, corpus: Path) -> Iterator[Tensor]:
    """Yield (1, 3, h, w) uint8 readable images, at each of the scales in turn."""
    scales = miner.scales
    for place, row in enumerate(_evenly_spaced_rows(corpus, CALIBRATION_IMAGES)):
        try:
            yield miner.prepare(place, row).pixels[scales[place % len(scales)]].unsqueeze(0)
        except ImageError:
            continue


def _evenly_spaced_rows(corpus: Path, count: int) -> Iterator[dict[str, Any]]:
    images, first = read_summary(corpus).images, 0
    wanted = np.unique(np.linspace(0, images - 1, min(count, images)).round().astype(np.int64))
    for shard in iter_shards(corpus):
        inside = wanted[(wanted >= first) & (wanted < first + len(shard))] - first
        yield from shard.take(inside).to_pylist()
        first += len(shard)
