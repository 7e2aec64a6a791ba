"""The classifier that most localizers are: a linear head on globally averaged features.

It is kept as a 1x1 convolution, so that its weights are those of the class activation maps (Zhou et al. 2016). All
localizers on it share their weights: one training serves every method that only reads the maps differently.
"""

import torch
from torch import Tensor, nn

from mining.backbones.base import Backbone
from mining.localizers.base import ClassificationLoss, Localizer


class Classifier(Localizer):
    """A 1x1 class convolution over the last features. Subclasses say where it looked.

    weights_of is 'classifier' for those that add no weights to it.

    bias: of the class convolution. dropout: on the averaged features, in training.
    channels: of the features that are classified, by default those of the backbone's last stage.
    """

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
        """Take over a linear classifier of the same shape, e.g. the ImageNet one."""
        with torch.no_grad():
            self.classifier.weight.copy_(linear.weight[:, :, None, None])
            if self.classifier.bias is not None:
                self.classifier.bias.copy_(linear.bias)

    def features(self, images: Tensor) -> list[Tensor]:
        """(B, 3, H, W) RGB values 0-255 to the features of every stage; the last are classified."""
        return self.backbone(images)

    def logits(self, features: Tensor) -> Tensor:
        """(B, D, h, w) last features to class logits (B, C)."""
        # averaging first is the same sum, and C maps cheaper than convolving first
        pooled = self.dropout(features.mean(dim=(2, 3), keepdim=True))
        return self.classifier(pooled).flatten(1)

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) RGB values 0-255 to class logits (B, C)."""
        return self.logits(self.features(images)[-1])

    def training_step(self, images: Tensor, targets: Tensor, loss: ClassificationLoss) -> dict[str, Tensor]:
        """The classification loss."""
        return {"classification": loss(self(images), targets)}
