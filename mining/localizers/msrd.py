"""MSRD: multi-scale discriminative region discovery.

Lv et al., "Multi-scale discriminative Region Discovery for Weakly-Supervised Object Localization" (2019). Nothing is
trained beyond the classifier. At the convolutional layers conv5 and conv4, all local maxima of a channel's gradient
weight map (the alphas of Grad-CAM++) are averaged to the channel's weight, so that small objects with a weak response
count as much as large ones (Algorithm 1); the two layers' maps are added.
"""

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from mining.backbones.base import Backbone
from mining.errors import ModelError
from mining.localizers.gradient import GradientLocalizer, Stage, gradcampp_alphas, weighted_sum
from mining.localizers.options import MSRDConfig


class MSRD(GradientLocalizer):
    """Local maxima of the gradient weights at two layers. Options: see MSRDConfig.

    Reported with VGG-16: top-1 / top-5 localization error 48.65 / 34.20 % on ILSVRC (conv5 alone 49.81 / 37.70),
    54.86 / 43.60 % on CUB; 0.43 localization accuracy on VOC 2012, with maps cut at 0.25 of their range.

    The paper's VGG-16 has a max-pool and fully connected layers behind conv5, ours the averaging head that all
    backbones have. There the gradient of a channel of conv5 is the same in every cell, all cells are local maxima,
    and the window matters at conv4 and conv3 only.
    """

    Config = MSRDConfig
    name: ClassVar[str] = "msrd"

    config: MSRDConfig

    def __init__(self, backbone: Backbone, classes: int, **options: Any) -> None:
        super().__init__(backbone, classes, **options)
        self._read = layers_read(backbone, self.config)

    def stages_read(self) -> Sequence[int]:
        return self._read

    def map_of(self, stages: Sequence[Stage], scores: Tensor) -> Tensor:
        return fused_layers([self.layer_map(stage) for stage in stages])

    def layer_map(self, stage: Stage) -> Tensor:
        """L_conv = sum_k w_k A^k (Algorithm 1, line 12; eq. 2). Gives (B, h, w)."""
        config = self.config
        activation = stage.activation.relu() if config.features == "rectified" else stage.activation
        gradient = stage.gradient.relu() if config.negative == "zero" else stage.gradient
        alphas = gradcampp_alphas(activation, gradient)
        weights = mean_of_local_maxima(alphas, window=config.window, stride=config.stride, delta=config.delta)
        return weighted_sum(weights, activation)


def mean_of_local_maxima(weights: Tensor, *, window: int = 3, stride: int = 1, delta: float = 0.0) -> Tensor:
    """w_k, the mean of all local maxima of a channel's gradient weight map (Algorithm 1, lines 1-11).

    weights: (B, D, h, w), G^kc of every channel k, finite. Gives (B, D), 0 for a channel that has no local maximum.
    A local maximum equals or exceeds all in the window around it (section III-C), and is above 0 and delta; a window
    reaches over the border without counting what lies there.
    """
    highest = functional.max_pool2d(weights, window, stride=1, padding=window // 2)
    found = ((weights == highest) & (weights > delta))[..., ::stride, ::stride].to(weights.dtype)
    # ones and zeros to multiply by: bits are selected by and counted in twice the time
    total = (found * weights[..., ::stride, ::stride]).sum(dim=(2, 3))
    return total / found.sum(dim=(2, 3)).clamp(min=1)


def fused_layers(maps: Sequence[Tensor]) -> Tensor:
    """Sum of the layers' maps, each brought to the size of the first, which is the finest (section III-D)."""
    size = maps[0].shape[1:]
    resized = [functional.interpolate(one[:, None], size, mode="bilinear", align_corners=False)[:, 0] for one in maps]
    return torch.stack(resized).sum(dim=0)


def layers_read(backbone: Backbone, config: MSRDConfig) -> list[int]:
    """Indices of the stages that the layers are in this backbone, lowest first; what it does not have is left out.

    Raises ModelError when it has none of them.
    """
    strides = backbone.strides
    deepest_first = range(len(strides) - 1, -1, -1)
    named = [n for n in deepest_first if config.apart == "stage" or strides[n] not in strides[n + 1 :]]
    stage_of = dict(zip(("conv5", "conv4", "conv3"), named, strict=False))
    read = sorted(stage_of[layer] for layer in config.layers.split("+") if layer in stage_of)
    if not read:
        raise ModelError(f"Option 'layers' of the localizer: {backbone.name} has no {config.layers}, only conv5.")
    return read
