"""The contract of every localizer: logits from images, raw activation maps for the classes asked for."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Self, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from mining.backbones.base import Backbone
from mining.config import Normalisation, Objective

C = TypeVar("C", bound=Any)  # a frozen dataclass
NO_CLASS = -1
ClassChoice = Tensor | Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Localization:
    """What a localizer saw in a batch.

    logits: (B, C) float32. classes: (B, K) int64, the classes mapped, NO_CLASS where an image has fewer.
    maps: (B, K, h, w) float32, raw and un-normalised; rows of NO_CLASS mean nothing.
        Of a class-agnostic localizer (B, 1, h, w).
    """

    logits: Tensor
    classes: Tensor
    maps: Tensor


class Localizer(nn.Module, ABC):
    """A classifier that can tell where it looked. One subclass a paper, made as kind(backbone, classes, **options).

    Config: frozen dataclass of its options (see `configured`); their defaults are the paper's.
    name: for `--localizer`; in the catalogue with a line about it.
    class_agnostic: there is one map an image, whatever class is asked for.
    needs_gradients: `localize` runs backward, so it must not be called in inference mode.
    weights_of: the family of localizers whose weights are interchangeable with its own, if any.
    keeps_last: the last epoch's weights are kept, where the classification loss does not tell which are best.
    trains_in_stages: each with losses of its own, so that not every parameter has a gradient at every step.
    learning_rate: of its new layers unless a person says otherwise, for AdamW and short trainings; no paper's.
    threshold, normalise: at which its maps are cut unless a person says otherwise (see MineOptions).
    """

    Config: ClassVar[type[Any]]
    name: ClassVar[str]
    class_agnostic: ClassVar[bool] = False
    needs_gradients: ClassVar[bool] = False
    weights_of: ClassVar[str | None] = None
    keeps_last: ClassVar[bool] = False
    trains_in_stages: ClassVar[bool] = False
    learning_rate: ClassVar[float] = 3e-3
    threshold: ClassVar[float] = 0.25
    normalise: ClassVar[Normalisation] = "max"

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

    def maps(self, images: Tensor, classes: Tensor) -> Tensor:
        """The maps alone, for the further scales of a pyramid; overridden where they cost less without logits."""
        return self.localize(images, classes).maps

    @abstractmethod
    def training_step(self, images: Tensor, targets: Tensor, loss: "ClassificationLoss") -> dict[str, Tensor]:
        """The paper's losses by name, each a scalar; their sum is minimised. targets: (B, C) of 0 and 1."""

    def start_epoch(self, epoch: int, epochs: int) -> None:
        """Told before each epoch of the training (0-based, and how many are planned), for methods with stages."""

    def parameter_groups(self, learning_rate: float) -> list[dict[str, object]]:
        """What the optimizer gets: all that is new at the full rate, a backbone that is trained at a tenth of it."""
        inherited = self.pretrained_parameters()
        new = [p for p in self.parameters() if p.requires_grad and id(p) not in inherited]
        old = [p for p in self.backbone.parameters() if p.requires_grad and id(p) in inherited]
        groups: list[dict[str, object]] = [{"params": new, "lr": learning_rate}]
        return [*groups, {"params": old, "lr": learning_rate / 10}] if old else groups

    def pretrained_parameters(self) -> set[int]:
        """The ids of the parameters that may come with the backbone's weights."""
        added = {id(parameter) for module in self.new_layers() for parameter in module.parameters()}
        return {id(parameter) for parameter in self.backbone.parameters()} - added

    def new_layers(self) -> list[nn.Module]:
        """What the paper puts into the backbone; not being pretrained, it learns also where the backbone is frozen."""
        return []

    def freeze_backbone(self) -> None:
        """Leave the pretrained features as they are: no gradients, batch-norm statistics kept."""
        self.frozen = True
        self.backbone.requires_grad_(False)
        for module in self.new_layers():
            module.requires_grad_(True)
        self.train(self.training)

    def train(self, mode: bool = True) -> Self:
        """Training or evaluation mode; a frozen backbone stays in evaluation mode, but for what was added to it."""
        super().train(mode)
        if self.frozen:
            self.backbone.eval()
            for module in self.new_layers():
                module.train(mode)
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
