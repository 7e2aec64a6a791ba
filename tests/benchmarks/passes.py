"""Measure a backbone's pass in OpenVINO by precision: one image, one thread; medians in ms, measured alternately.

    python tests/benchmarks/passes.py [--backbones efficientnet_lite0,resnet50] [--precisions float32,bfloat16,int8]
    ONEDNN_MAX_CPU_ISA=AVX512_CORE_VNNI python tests/benchmarks/passes.py     # as on a CPU without AMX

Weights are random, which changes no time. int8 needs NNCF.
"""

import copy
import statistics
import time
from contextlib import nullcontext
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from cyclopts import App

from mining.backbones.build import build
from mining.localizers.base import Localizer
from mining.localizers.cam import CAM
from mining.models.fuse_batchnorm import prepare_for_inference
from mining.runtimes.choice import Compute
from mining.runtimes.prepare import use_runtime
from mining.runtimes.quantization import quantize_localizer

SIZES = (224, 304), (336, 448)
CPU = torch.device("cpu")
CALIBRATION_IMAGES = 8

app = App(help="Measure a backbone's pass in OpenVINO by precision.")


def picture(size: tuple[int, int]) -> torch.Tensor:
    return torch.randint(0, 256, (1, 3, *size), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def in_precision(plain: Localizer, precision: Any, folder: Path) -> Localizer:
    """Return a copy of the localizer that OpenVINO computes with the precision, in one thread."""
    localizer = copy.deepcopy(plain)
    localizer.int8_networks = folder / "int8.zip"
    if precision == "int8":
        quantize_localizer(localizer, None, [picture(SIZES[0])] * CALIBRATION_IMAGES, localizer.int8_networks)
    compute = Compute(CPU, "openvino", precision)
    use_runtime(localizer, compute, None, threads=1, timer=nullcontext, asked=("openvino", precision))
    return localizer


@app.default
def main(
    *,
    backbones: str = "efficientnet_lite0,resnet50",
    precisions: str = "float32,bfloat16,int8",
    rounds: int = 30,
) -> None:
    """Print one row per backbone and size of the image."""
    print(f"| backbone | pixels | {' | '.join(precisions.split(','))} |")
    for backbone in backbones.split(","):
        torch.manual_seed(0)
        plain = prepare_for_inference(CAM(build(backbone)[0], 20), CPU)
        with TemporaryDirectory() as folder, torch.inference_mode():
            networks = [in_precision(plain, precision, Path(folder)) for precision in precisions.split(",")]
            for size in SIZES:
                image = picture(size)
                seconds: list[list[float]] = [[] for _ in networks]
                for number in range(rounds + 2):
                    for network, times in zip(networks, seconds, strict=True):
                        started = time.perf_counter()
                        network.last_features(image)  # type: ignore[operator]
                        if number >= 2:
                            times.append(time.perf_counter() - started)
                medians = " | ".join(f"{1000 * statistics.median(times):.1f}" for times in seconds)
                print(f"| {backbone} | {size[0]} x {size[1]} | {medians} |", flush=True)


if __name__ == "__main__":
    app()
