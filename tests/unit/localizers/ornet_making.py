"""A small ORNet with inputs, and its losses written out by hand."""

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mining.backbones.base import Backbone, StageSpec
from mining.backbones.build import build
from mining.localizers.base import ClassificationLoss
from mining.localizers.ornet import ORNet

CLASSES = 4
STAGE_ONE, STAGE_TWO = 0, 1  # of two epochs


def pictures(count: int = 2, height: int = 64, width: int = 96, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, 3, height, width), dtype=torch.uint8, generator=generator)


def targets(count: int = 2) -> Tensor:
    return torch.eye(CLASSES)[torch.arange(count) % CLASSES]


def small_network() -> nn.Sequential:
    def block(inputs: int, outputs: int, stride: int) -> nn.Sequential:
        return nn.Sequential(nn.Conv2d(inputs, outputs, 3, stride, 1), nn.BatchNorm2d(outputs), nn.ReLU())

    return nn.Sequential(block(3, 8, 4), block(8, 12, 2))


def taken_apart(network: nn.Module) -> StageSpec:
    return StageSpec(list(network.children()), (8, 12), (4, 8), None, input_size=32)


def small(**options: Any) -> ORNet:
    """ORNet on two convolutions, with batch norms as after training and maps and logits that vary.

    As the paper has it, without a margin, unless something else is asked for.
    """
    torch.manual_seed(3)
    localizer = ORNet(Backbone("small", taken_apart(small_network())), CLASSES, **{"preset": "paper", **options})
    for part in localizer.modules():
        if isinstance(part, nn.BatchNorm2d):
            nn.init.uniform_(part.running_mean, -0.2, 0.2)
            nn.init.uniform_(part.running_var, 0.5, 2.0)
            nn.init.uniform_(part.weight, 0.5, 1.5)
            nn.init.normal_(part.bias, std=0.3)
        if isinstance(part, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(part.weight)
    return localizer.eval()


def on(backbone: str, **options: Any) -> ORNet:
    """ORNet on a backbone, as the paper has it unless something else is asked for."""
    torch.manual_seed(3)
    return ORNet(build(backbone)[0], CLASSES, **{"preset": "paper", **options}).eval()


def losses_of(localizer: ORNet, stage: int, images: Tensor, wanted: Tensor, objective: Any = "single") -> dict:
    localizer.start_epoch(stage, 2)
    return localizer.training_step(images, wanted, ClassificationLoss(objective))


def cross_entropy(logits: Tensor, wanted: Tensor) -> float:
    """-sum_i y_i log(e^y_i / sum_j e^y_j), the mean over the batch (eq. 5)."""
    values = logits.detach().double().numpy()
    shares = np.exp(values) / np.exp(values).sum(axis=1, keepdims=True)
    return float(-(wanted.numpy() * np.log(shares)).sum(axis=1).mean())


def sigmoid(values: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-values))


def convolved(features: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    """(B, k, h, w) with one (k, 3, 3) kernel, padded by zeros, to (B, h, w)."""
    height, width = features.shape[2:]
    padded = np.pad(features, ((0, 0), (0, 0), (1, 1), (1, 1)))
    shifts = [(y, x) for y in range(3) for x in range(3)]
    return sum(
        np.einsum("bkhw,k->bhw", padded[:, :, y : y + height, x : x + width], kernel[:, y, x]) for y, x in shifts
    )
