"""The classifier under most localizers: a linear head on globally averaged features.

The head is a 1x1 convolution, so that its weights are those of the class activation maps (Zhou et al. 2016). Localizers
that add no weights of their own to it are interchangeable: one trained model serves all of them.
"""

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from mining.backbones.base import Backbone
from mining.backbones.receptive_fields import CellGrid, cell_grid
from mining.localizers.base import ClassificationLoss, Localizer


class Classifier(Localizer):
    """A 1x1 class convolution over the last features; subclasses make the maps.

    A subclass that adds layers to `features` sets `trains_on_features` to False.

    Args:
        backbone: The features.
        classes: Number of classes.
        bias: Whether the class convolution has a bias.
        dropout: On the averaged features, in training.
        channels: Channels of the features that are classified; by default those of the backbone's last stage.
    """

    trains_on_features: ClassVar[bool] = True
    inference_parts: ClassVar[tuple[str, ...]] = ("last_features",)

    def __init__(
        self, backbone: Backbone, classes: int, *, bias: bool = True, dropout: float = 0.2, channels: int | None = None
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.dropout = nn.Dropout(dropout)
        width = backbone.channels[-1] if channels is None else channels
        self.classifier = nn.Conv2d(width, classes, kernel_size=1, bias=bias)
        nn.init.normal_(self.classifier.weight, std=0.01)
        if self.classifier.bias is not None:
            nn.init.zeros_(self.classifier.bias)

    def load_linear(self, linear: nn.Linear) -> None:
        """Copy the weights of a linear classifier of the same shape, e.g. the ImageNet one."""
        with torch.no_grad():
            self.classifier.weight.copy_(linear.weight[:, :, None, None])
            if self.classifier.bias is not None:
                self.classifier.bias.copy_(linear.bias)

    def features(self, images: Tensor) -> list[Tensor]:
        """Compute the features of every stage from (B, 3, H, W) RGB values 0-255; the last ones are classified."""
        return self.backbone(images)

    def last_features(self, images: Tensor) -> Tensor:
        """Compute the (B, D, h, w) features that are classified."""
        return self.features(images)[-1]

    def logits(self, features: Tensor) -> Tensor:
        """Classify (B, D, h, w) last features: (B, C) logits."""
        # averaging first gives the same sum as convolving first, and saves C maps
        pooled = self.dropout(features.mean(dim=(2, 3), keepdim=True))
        return self.classifier(pooled).flatten(1)

    def forward(self, images: Tensor) -> Tensor:
        """Classify (B, 3, H, W) RGB values 0-255: (B, C) logits."""
        return self.logits(self.last_features(images))

    def cell_grid(self, size: tuple[int, int]) -> CellGrid | None:
        """Return where the cells of the last features look, see Localizer."""
        return cell_grid(self.backbone, size)

    def training_step(self, images: Tensor, targets: Tensor, loss: ClassificationLoss) -> dict[str, Tensor]:
        """Compute the classification loss."""
        return {"classification": loss(self(images), targets)}

    def frozen_stages(self) -> Sequence[int]:
        """Return the last stage, which is classified."""
        return (len(self.backbone.stages) - 1,)

    def condense(self, stages: Sequence[Tensor]) -> list[Tensor]:
        """Average the last features: the (B, D, 1, 1) float32 means alone are classified."""
        return [self.backbone.cells_of(stages[0]).float().mean(dim=(2, 3), keepdim=True)]

    def logits_from(self, features: Sequence[Tensor]) -> Tensor:
        """Classify averaged features: (B, C) logits."""
        return self.logits(features[0])

    def training_step_from(
        self, features: Sequence[Tensor], size: tuple[int, int], targets: Tensor, loss: ClassificationLoss
    ) -> dict[str, Tensor]:
        """Compute the classification loss from averaged features."""
        return {"classification": loss(self.logits_from(features), targets)}
