"""Class activation mapping in its one-pass form.

Zhou et al., "Learning Deep Features for Discriminative Localization" (2016): a linear classifier on globally
averaged features is the average of a 1x1 convolution, whose output is the class activation map
M_c(x, y) = sum_k w_k^c f_k(x, y) (eq. 2).
"""

from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from mining.backbones import Backbone
from mining.localizers.base import ClassChoice, ClassificationLoss, Localization, Localizer, chosen_classes


class CAM(Localizer):
    """A 1x1 class convolution and global average pooling over the last features.

    background: what a map is measured against.
        'mean': the mean of all classes' maps is taken off. Softmax sees differences of classes only, so a map is
            known up to a part common to all classes; without it the map shows what speaks for this class rather
            than what speaks for any object. (NL-CCAM's combination of all ranks, in its simplest form.)
        'none': the map as the paper has it.
    """

    name: ClassVar[str] = "cam"
    summary: ClassVar[str] = "class activation maps of a linear head, measured against the mean class (Zhou 2016)"

    def __init__(
        self,
        backbone: Backbone,
        classes: int,
        *,
        background: Literal["mean", "none"] = "mean",
        dropout: float = 0.2,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.background = background
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Conv2d(backbone.channels[-1], classes, kernel_size=1)
        nn.init.normal_(self.classifier.weight, std=0.01)
        nn.init.zeros_(self.classifier.bias)  # type: ignore[arg-type]

    def load_linear(self, linear: nn.Linear) -> None:
        """Take over a linear classifier of the same shape, e.g. the ImageNet one."""
        with torch.no_grad():
            self.classifier.weight.copy_(linear.weight[:, :, None, None])
            self.classifier.bias.copy_(linear.bias)  # type: ignore[union-attr]

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) RGB values 0-255 to class logits (B, C)."""
        return self._logits(self.backbone(images)[-1])

    def _logits(self, features: Tensor) -> Tensor:
        # averaging first is the same sum, and C maps cheaper than convolving first
        pooled = self.dropout(features.mean(dim=(2, 3), keepdim=True))
        return self.classifier(pooled).flatten(1)

    def localize(self, images: Tensor, classes: ClassChoice) -> Localization:
        """Logits and the maps of the classes asked for, from one pass; only those maps are computed."""
        features = self.backbone(images)[-1]
        logits = self._logits(features).float()
        wanted = chosen_classes(classes, logits).to(logits.device)
        kernel = self.classifier.weight.flatten(1)
        if self.background == "mean" and len(kernel) > 1:
            kernel = kernel - kernel.mean(dim=0)
        maps = torch.einsum("bkc,bchw->bkhw", kernel[wanted.clamp(min=0)].to(features.dtype), features)
        return Localization(logits, wanted, maps.float())

    def training_step(self, images: Tensor, targets: Tensor, loss: ClassificationLoss) -> dict[str, Tensor]:
        """The classification loss."""
        return {"classification": loss(self(images), targets)}

    def parameter_groups(self, learning_rate: float) -> list[dict[str, object]]:
        """The head at the full rate, a backbone that is trained at a tenth of it."""
        groups: list[dict[str, object]] = [{"params": list(self.classifier.parameters()), "lr": learning_rate}]
        features = [p for p in self.backbone.parameters() if p.requires_grad]
        if features:
            groups.append({"params": features, "lr": learning_rate / 10})
        return groups
