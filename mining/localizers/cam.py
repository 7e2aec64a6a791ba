"""Class activation mapping (CAM) in its one-pass form.

A linear classifier on globally averaged features equals the average of a 1x1 convolution with the same weights. The
output of that convolution is the class activation map M_c(x, y) = sum_k w_k^c f_k(x, y) (eq. 2), so one forward pass
gives logits and maps.

Differences from the paper:

- The mean of all classes' maps is subtracted (option `background`). A softmax depends on differences between classes
  only, so that a map is determined up to a part that all classes share; without it, the map shows what distinguishes
  this class rather than any object.
- The class layer has a bias, and dropout before it in training.
- Networks are fully convolutional with output stride 16 (see mining/backbones/base.py).

Reference:
    Zhou, Khosla, Lapedriza, Oliva, Torralba, "Learning Deep Features for Discriminative Localization", CVPR 2016.
"""

from typing import Any, ClassVar

import torch
from torch import Tensor

from mining.backbones.base import Backbone
from mining.localizers.base import ClassChoice, Localization, chosen_classes
from mining.localizers.classifier import Classifier
from mining.localizers.option_values import build_config
from mining.localizers.options import CAMConfig


class CAM(Classifier):
    """A 1x1 class convolution and global average pooling over the last features; options in CAMConfig."""

    Config = CAMConfig
    name: ClassVar[str] = "cam"

    def __init__(self, backbone: Backbone, classes: int, **options: Any) -> None:
        config = build_config(CAMConfig, options)
        super().__init__(backbone, classes, dropout=config.dropout)
        self.config = config

    def localize(self, images: Tensor, classes: ClassChoice) -> Localization:
        """Compute logits and the maps of the classes asked for in one pass; no other maps are computed."""
        features = self.last_features(images)
        logits = self.logits(features).float()
        wanted = chosen_classes(classes, logits).to(logits.device)
        kernel = self.classifier.weight.flatten(1)
        if self.config.background == "mean" and len(kernel) > 1:
            kernel = kernel - kernel.mean(dim=0)
        maps = torch.einsum("bkc,bchw->bkhw", kernel[wanted.clamp(min=0)].to(features.dtype), features)
        return Localization(logits, wanted, maps.float())
