"""The contract of every localizer: logits from images, raw activation maps for the classes asked for."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Self

import torch
from torch import Tensor, nn
from torch.nn import functional

from mining.backbones import Backbone
from mining.config import Objective

NO_CLASS = -1
ClassChoice = Tensor | Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Localization:
    """What a localizer saw in a batch.

    logits: (B, C) float32. classes: (B, K) int64, the classes mapped, NO_CLASS where an image has fewer.
    maps: (B, K, h, w) float32, raw and un-normalised; rows of NO_CLASS mean nothing.
    """

    logits: Tensor
    classes: Tensor
    maps: Tensor


class Localizer(nn.Module, ABC):
    """A classifier that can tell where it looked. One subclass a paper."""

    name: ClassVar[str]
    summary: ClassVar[str]
    class_agnostic: ClassVar[bool] = False

    backbone: Backbone
    frozen: bool = False

    @abstractmethod
    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) RGB values 0-255 to class logits (B, C)."""

    @abstractmethod
    def localize(self, images: Tensor, classes: ClassChoice) -> Localization:
        """Logits, and one map for each class asked for.

        images: (B, 3, H, W) RGB values 0-255.
        classes: (B, K) int64 with NO_CLASS as padding, or a function that chooses them from the logits.
        """

    @abstractmethod
    def training_step(self, images: Tensor, targets: Tensor, loss: "ClassificationLoss") -> dict[str, Tensor]:
        """The paper's losses by name, each a scalar; their sum is minimised. targets: (B, C) of 0 and 1."""

    @abstractmethod
    def parameter_groups(self, learning_rate: float) -> list[dict[str, object]]:
        """What the optimizer gets: groups with their own learning rates."""

    def freeze_backbone(self) -> None:
        """Leave the pretrained features as they are: no gradients, batch-norm statistics kept."""
        self.frozen = True
        self.backbone.requires_grad_(False)
        self.backbone.eval()

    def train(self, mode: bool = True) -> Self:
        """Training or evaluation mode; a frozen backbone stays in evaluation mode."""
        super().train(mode)
        if self.frozen:
            self.backbone.eval()
        return self


class ClassificationLoss(nn.Module):
    """Cross-entropy for one class an image, binary cross-entropy for several, rare classes weighed up.

    weights: (C,) one a class, or None. A 'multi' weight multiplies the loss of the class's positives.
    """

    weights: Tensor | None

    def __init__(self, objective: Objective, weights: Tensor | None = None) -> None:
        super().__init__()
        self.objective = objective
        self.register_buffer("weights", weights)

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        """(B, C) logits and (B, C) targets of 0 and 1 to a scalar."""
        if self.objective == "single":
            return functional.cross_entropy(logits, targets.argmax(dim=1), weight=self.weights)
        return functional.binary_cross_entropy_with_logits(logits, targets, pos_weight=self.weights)


def probabilities(logits: Tensor, objective: Objective) -> Tensor:
    """(B, C) logits to the classifier's probabilities, softmax or sigmoid."""
    return logits.softmax(dim=1) if objective == "single" else logits.sigmoid()


def chosen_classes(classes: ClassChoice, logits: Tensor) -> Tensor:
    """(B, K) classes, asked for or chosen from the logits."""
    return classes if isinstance(classes, Tensor) else classes(logits)


def pad_classes(lists: list[list[int]]) -> Tensor:
    """Ragged class lists to (B, K) int64, NO_CLASS at the end of the shorter ones."""
    width = max((len(one) for one in lists), default=0)
    return torch.tensor([one + [NO_CLASS] * (width - len(one)) for one in lists], dtype=torch.int64).view(
        len(lists), width
    )
