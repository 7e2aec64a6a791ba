"""A training step and a detection of each kind of detector, in seconds and relative to FCOS.

    python tests/benchmarks/detector_kinds.py [SIDE]

All kinds run alternately in one process, on one thread; figures are medians of five rounds after an unmeasured one, in
seconds of the processor, so that other load matters little. A step is forward and backward pass of 8 images of SIDE
(256) px in bfloat16, with EfficientNet-Lite0 and 20 classes; a detection is one image in float32.
"""

import statistics
import sys
import time
from collections.abc import Callable
from functools import partial

import torch
from measuring import ROUNDS

from mining.backbones.build import build
from mining.config import DETECTOR_KINDS, DetectorNetworkOptions
from mining.detection.boxes import DetectionTarget
from mining.detection.network import Detector

BATCH, CLASSES = 8, 20
BOXES = ((0.1, 0.1, 0.7, 0.6), (0.4, 0.2, 0.9, 0.7))  # shares of the side


def main(side: int) -> None:
    """Print a line per kind."""
    torch.set_num_threads(1)
    images = [torch.randint(256, (3, side * 3 // 4, side), dtype=torch.uint8) for _ in range(BATCH)]
    target = DetectionTarget(side * torch.tensor(BOXES), torch.tensor([1, 5]), torch.ones(len(BOXES)))
    detectors = {kind: _build(kind, side) for kind in DETECTOR_KINDS}
    steps = _measure({kind: partial(_step, one, images, [target] * BATCH) for kind, one in detectors.items()})
    found = _measure({kind: partial(one.detect, images[:1], [None]) for kind, one in detectors.items()})
    for kind, one in detectors.items():
        millions = sum(values.numel() for values in one.parameters()) / 1e6
        print(
            f"{kind}: step {steps[kind]:.3f} s ({steps[kind] / steps['fcos']:.2f}), detection {found[kind]:.3f} s "
            f"({found[kind] / found['fcos']:.2f}), {millions:.1f} million parameters"
        )


def _build(kind: str, side: int) -> Detector:
    options = DetectorNetworkOptions(kind=kind, side=side)  # type: ignore[arg-type]
    return Detector(build("efficientnet_lite0", weights="imagenet")[0], CLASSES, options).train()


def _step(detector: Detector, images: list[torch.Tensor], targets: list[DetectionTarget]) -> None:
    detector.zero_grad()
    with torch.autocast("cpu", torch.bfloat16):
        losses = detector.losses(images, targets)
    torch.stack(list(losses.values())).sum().backward()


def _measure(functions: dict[str, Callable[[], object]]) -> dict[str, float]:
    seconds: dict[str, list[float]] = {kind: [] for kind in functions}
    for number in range(ROUNDS + 1):
        for kind, function in functions.items():
            started = time.process_time()
            function()
            if number:
                seconds[kind].append(time.process_time() - started)
    return {kind: statistics.median(values) for kind, values in seconds.items()}


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 256)
