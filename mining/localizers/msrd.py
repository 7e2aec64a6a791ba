"""MSRD: multi-scale discriminative region discovery.

At the convolutional layers conv5 and conv4, all local maxima of a channel's gradient weight map (the alphas of
Grad-CAM++) are averaged to the channel's weight, so that small objects with a weak response count as much as large ones
(algorithm 1). The two layers' maps are added. Nothing is trained beyond the classifier.

Differences from the paper:

- The paper's VGG-16 has a max-pool and fully connected layers behind conv5, as an unmodified classifier has here
  (mining/backbones/classifiers.py). A trained model has a head that averages: the gradient of a channel of conv5 is
  equal in all cells, all cells are local maxima, and the window matters at conv4 and conv3 only.
- Negative gradients have a weight of 0 (option `negative`), and activations are rectified first (option `features`).
- Maps are cut at 0.45 of their maximum, which was best on the training photos of two sets with EfficientNet-Lite0 at
  three scales. The paper cuts maps "scaled between 0 and 1" (section IV-A), which is minmax, at 0.25.

Reference:
    Lv et al., "Multi-scale discriminative Region Discovery for Weakly-Supervised Object Localization", 2019.
"""

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from mining.backbones.base import Backbone
from mining.errors import ModelError
from mining.localizers.base import Explanation
from mining.localizers.gradient import GradientLocalizer, Stage, gradcampp_alphas, named_layers, weighted_sum
from mining.localizers.options import MSRDConfig


class MSRD(GradientLocalizer):
    """Local maxima of the gradient weights at two layers; options in MSRDConfig.

    The paper reports, with VGG-16: top-1 / top-5 localization error 48.65 / 34.20 % on ILSVRC (conv5 alone 49.81 /
    37.70), 54.86 / 43.60 % on CUB; localization accuracy 0.43 on VOC 2012, with maps cut at 0.25 of their range.
    """

    Config = MSRDConfig
    name: ClassVar[str] = "msrd"

    config: MSRDConfig

    def __init__(self, backbone: Backbone, classes: int, **options: Any) -> None:
        super().__init__(backbone, classes, **options)
        self._read = layers_read(backbone, self.config)

    def stages_read(self) -> Sequence[int]:
        """Return the stages that are conv5, conv4 and conv3, as option `layers` names them."""
        return self._read

    def map_of(self, stages: Sequence[Stage], scores: Tensor) -> Tensor:
        """Add the layers' maps."""
        return fused_layers([self.layer_map(stage) for stage in stages])

    def layers(self) -> dict[str, int]:
        """Return the stages that are conv5, conv4 and conv3, as option `apart` has it."""
        return named_layers(self.backbone, by_stage=self.config.apart == "stage")

    def explain(self, images: Tensor, classes: Tensor) -> dict[str, Explanation]:
        """Add the maps that the options name, and the paper's explanation maps (section IV-A) of all of these."""
        layers = super().explain(images, classes)
        if self.config.layers not in layers:
            *single, (every, total) = layers.items()
            own = Explanation(self.localize(images, classes).maps)
            layers = dict([*single, (self.config.layers, own), (every, total)])
        size = (images.shape[-2], images.shape[-1])
        products = {
            f"image x {name}": Explanation(explanation_map(layer.maps, size), "product")
            for name, layer in layers.items()
        }
        return layers | products

    def sum_of_layers(self, maps: Sequence[Tensor]) -> Tensor:
        """Add the maps of several layers as they are (section III-D)."""
        count, classes = maps[0].shape[:2]
        fused = fused_layers([one.flatten(0, 1) for one in maps])
        return fused.view(count, classes, *fused.shape[1:])

    def layer_map(self, stage: Stage) -> Tensor:
        """Compute L_conv = sum_k w_k A^k, (B, h, w) (algorithm 1, line 12; eq. 2)."""
        config = self.config
        activation = stage.activation.relu() if config.features == "rectified" else stage.activation
        gradient = stage.gradient.relu() if config.negative == "zero" else stage.gradient
        alphas = gradcampp_alphas(activation, gradient)
        weights = mean_of_local_maxima(alphas, window=config.window, stride=config.stride, delta=config.delta)
        return weighted_sum(weights, activation)


def mean_of_local_maxima(weights: Tensor, *, window: int = 3, stride: int = 1, delta: float = 0.0) -> Tensor:
    """Compute w_k, the mean of all local maxima of a channel's gradient weight map (algorithm 1, lines 1-11).

    A local maximum equals or exceeds all cells of the window around it (section III-C), and is above 0 and delta. At
    the border the window is smaller.

    Args:
        weights: (B, D, h, w), G^kc of every channel k, finite.
        window: Side of the window, in cells; odd.
        stride: Step of the window, in cells.
        delta: A local maximum counts above this value.

    Returns:
        (B, D); 0 for a channel without a local maximum.
    """
    highest = functional.max_pool2d(weights, window, stride=1, padding=window // 2)
    is_maximum = ((weights == highest) & (weights > delta))[..., ::stride, ::stride].to(weights.dtype)
    # multiplied by ones and zeros, because selecting and counting booleans takes twice the time
    total = (is_maximum * weights[..., ::stride, ::stride]).sum(dim=(2, 3))
    return total / is_maximum.sum(dim=(2, 3)).clamp(min=1)


def fused_layers(maps: Sequence[Tensor]) -> Tensor:
    """Add the layers' maps, each resized to the first one, which is the finest (section III-D)."""
    size = maps[0].shape[1:]
    resized = [functional.interpolate(one[:, None], size, mode="bilinear", align_corners=False)[:, 0] for one in maps]
    return torch.stack(resized).sum(dim=0)


def explanation_map(maps: Tensor, size: tuple[int, int], *, delta: float = 0.25) -> Tensor:
    """Compute what an image is multiplied by to give its explanation map (section IV-A).

    Args:
        maps: (B, K, h, w), weighted sums of activation.
        size: (H, W) of the image in px.
        delta: Values above it become 1.

    Returns:
        (B, K, H, W) in 0-1; 0 for a constant map.
    """
    resized = functional.interpolate(maps, size, mode="bilinear", align_corners=False)
    lowest, highest = resized.amin(dim=(2, 3), keepdim=True), resized.amax(dim=(2, 3), keepdim=True)
    level = (resized - lowest) / (highest - lowest).clamp_min(torch.finfo(maps.dtype).tiny)
    return level.masked_fill(level > delta, 1.0)


def layers_read(backbone: Backbone, config: MSRDConfig) -> list[int]:
    """Return the indices of the stages that are the layers of option `layers`, lowest first.

    Layers that the backbone does not have are left out. Where all stages have one stride (transformers), the layers are
    the last three stages.

    Raises:
        ModelError: The backbone has none of them.
    """
    stage_of = named_layers(backbone, by_stage=config.apart == "stage")
    read = sorted(stage_of[layer] for layer in config.layers.split("+") if layer in stage_of)
    if not read:
        raise ModelError(f"Option 'layers' of the localizer: {backbone.name} has no {config.layers}, only conv5.")
    return read
