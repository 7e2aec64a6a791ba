"""Class activation mapping in its one-pass form.

Zhou et al., "Learning Deep Features for Discriminative Localization" (2016): a linear classifier on globally
averaged features is the average of a 1x1 convolution, whose output is the class activation map
M_c(x, y) = sum_k w_k^c f_k(x, y) (eq. 2).
"""

from typing import Any, ClassVar

import torch
from torch import Tensor

from mining.backbones.base import Backbone
from mining.localizers.base import ClassChoice, Localization, chosen_classes
from mining.localizers.classifier import Classifier
from mining.localizers.options import CAMConfig, build_config


class CAM(Classifier):
    """A 1x1 class convolution and global average pooling over the last features. Options: see CAMConfig."""

    Config = CAMConfig
    name: ClassVar[str] = "cam"

    def __init__(self, backbone: Backbone, classes: int, **options: Any) -> None:
        config = build_config(CAMConfig, options)
        super().__init__(backbone, classes, dropout=config.dropout)
        self.config = config

    def localize(self, images: Tensor, classes: ClassChoice) -> Localization:
        """Logits and the maps of the classes asked for, from one pass; only those maps are computed."""
        features = self.features(images)[-1]
        logits = self.logits(features).float()
        wanted = chosen_classes(classes, logits).to(logits.device)
        kernel = self.classifier.weight.flatten(1)
        if self.config.background == "mean" and len(kernel) > 1:
            kernel = kernel - kernel.mean(dim=0)
        maps = torch.einsum("bkc,bchw->bkhw", kernel[wanted.clamp(min=0)].to(features.dtype), features)
        return Localization(logits, wanted, maps.float())
