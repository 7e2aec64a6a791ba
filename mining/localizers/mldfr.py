"""mLDFR: multi-scale low-discriminative feature reactivation.

Batch norm and self-attention through the network reactivate features that a classifier alone would ignore, and the last
down-sampling is replaced so that maps are finer. Maps of several scales are summed.

    image -> [convolutions, batch norms] -> pool 2 -> attention 7x7 -> ... pool 3 -> attention 5x5
          -> ... pool 4 -> attention 3x3 -> ... -> 1x1 class convolution = class maps -> global average = logits

The changes of the network are in mldfr_network.py. MsCAM (section III-C), the sum of the maps of scales 1, 1.5 and 2,
is in pyramid.py. Eq. 9 and the boxes are in mining/regions/extraction.py, with the paper's threshold of 0.2.

The paper reports, with VGG16, a CorLoc of 75.04 % on CUB-200-2011 and 66.12 % on ILSVRC, top-1 localization errors of
38.07 % and 46.96 %; with DenseNet161 79.91 % and 69.06 % (tables III, IV, VI, XIII). Without attention VGG16 has
71.82 / 63.49, without batch norm 47.21 / 63.35, without both 42.45 / 61.33 (table IX; options attention and
batch_norm).

Differences from the paper, and from the released code where the paper leaves something open:

- Order. Channel attention comes first, and spatial attention is computed from its result (eq. 7; "sequentially
  learns").
- Defaults. The paper trains the whole network on all of ILSVRC in large batches. The defaults here (`preset:
  pretrained`) are for what a pretrained backbone learns in minutes, frozen or not; `preset: paper` has the text's.
  - Attention starts as identity (attention_start='neutral'): both attentions are doubled, and their batch norm starts
    with a scale of 0, or their weights with 0 where there is none. In the released code it starts from Xavier's
    distribution, around sigmoid(0): each of the two halves its features, unevenly, and pretrained layers behind it get
    features of another size than they were trained on.
  - Batch norm before the sigmoids (attention_batch_norm), as in the released code; the text has none. The outputs of
    linear blocks (EfficientNet, MobileNetV2) have standard deviations of 3 to 7, and a maximum over channels far above:
    without it, attention saturates. With EfficientNet-Lite0 trained as a whole, 95 % of the values of spatial attention
    are outside 0.05-0.95 after 16 epochs without batch norm, and none with it.
  - The last block is kept and dilated (last='dilated') instead of replaced by a new one.
  - The mean map of all classes is subtracted (background='mean'), as for CAM, and maps are cut at 0.25 of their
    maximum. Class maps without it are high in the background too: cut at 0.2 of their range, they also teach the cell
    classifier that background is object.
  - Attention has a tenth of the learning rate of new layers (attention_rate); the text has one rate for all.
- Bias. Eq. 3 has none, the released code has one (option bias). It is not part of the maps. With several labels per
  image, boxmine trains by binary cross-entropy, for which most classes are absent; without a bias the maps have to say
  so, and are negative in all cells of present classes too. The bias therefore starts at the frequency of each class.
- The released code has dropout 0.2 in its GoogLeNet (option dropout); the paper has none.
- The released code cuts twice more than the paper, which is not done here: the fused map is set to 0 where it is below
  its mean (also where the mean is negative, so that what is cut ends above what is kept), and after the threshold the
  mask is cut again, at the mean of what is left. Its box is that of the whole mask unless several are asked for, and
  its regions are 4-connected. mining/evaluation/protocols has that protocol in full. Where the mean is positive, the
  first cut makes 0 the lowest value, so that `normalise: max` instead of `minmax` comes close to it.
- Training. Of the paper's recipe (SGD of rate 0.03, momentum 0.9, weight decay 1e-4, rate divided by 10 when the loss
  has not improved for 3 epochs, 50 epochs, batches of 256, crops of 80-100 %) only the choice of the last epoch's
  weights is part of the localizer; the rest is the training's. Batches of 16 did not converge in the paper and those of
  32 lost 12 points on CUB (table XII): use large batches for a network that is not frozen.

Reference:
    Wang, Yuan, Li, Ding, Li, Wu, Hu, "Multi-scale Low-Discriminative Feature Reactivation for Weakly Supervised Object
    Localization", IEEE TIP 2021.
"""

from collections.abc import Sequence
from typing import Any, ClassVar, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from mining.backbones.base import Backbone
from mining.config import Objective
from mining.errors import ModelError
from mining.localizers.cam import CAM
from mining.localizers.mldfr_network import KNOWN, rebuild, timm_places
from mining.localizers.option_values import build_config
from mining.localizers.options import MLDFRConfig
from mining.localizers.registry import LOCALIZERS


class MLDFR(CAM):
    """CAM on a network with batch norm and self-attention; options in MLDFRConfig."""

    Config = MLDFRConfig
    name: ClassVar[str] = "mldfr"
    keeps_last: ClassVar[bool] = True
    trains_on_features: ClassVar[bool] = False  # attention lies between the stages

    config: MLDFRConfig

    def __init__(self, backbone: Backbone, classes: int, **options: Any) -> None:
        config: MLDFRConfig = build_config(MLDFRConfig, options)
        if len(config.after) != len(config.kernels):
            raise ModelError(
                f"Options 'after' and 'kernels' of the localizer: {len(config.after)} places for "
                f"{len(config.kernels)} kernels; give one kernel a place."
            )
        if backbone.name in KNOWN:
            attention, added = _between_stages(backbone, config)
        else:
            attention, added = [], _within_timm_network(backbone, config)
        super().__init__(backbone, classes, background=config.background, dropout=config.dropout)
        self.config = config
        self.threshold, self.normalise = LOCALIZERS[self.name].map_cut({"preset": config.preset})
        if not config.bias:
            self.classifier.bias = None  # eq. 3
        self.attention = nn.ModuleList(attention)
        # by name, because they are registered in the backbone
        self._added = tuple(
            name for name, module in backbone.named_modules() if any(module is layer for layer in added)
        )

    def features(self, images: Tensor) -> list[Tensor]:
        """Compute the features behind each attention and behind the last stage from (B, 3, H, W) RGB values 0-255."""
        features = self.backbone.normalise(images)
        collected = []
        for number, stage in enumerate(self.backbone.stages):
            features = stage(features)
            if number < len(self.attention):
                features = self.attention[number](features)
            collected.append(features)
        return collected

    def start_from_class_shares(self, shares: Tensor, objective: Objective, weights: Tensor | None) -> None:
        """Start the bias where the binary loss is lowest without any feature, if there are several labels per image.

        Without it, the maps themselves must be negative to say that most classes are absent, those of present classes
        too; normalised by their range, such maps are high everywhere but in a few cells.
        """
        bias = self.classifier.bias
        if objective == "single" or bias is None or bias.any():  # one that was trained is kept
            return
        odds = shares / (1 - shares) if weights is None else weights * shares / (1 - shares)
        with torch.no_grad():
            bias.copy_(odds.clamp(1e-4, 1e4).log())

    def parameter_groups(self, learning_rate: float) -> list[dict[str, object]]:
        """Return the optimizer's groups, with the attention in a group of its own rate."""
        attention = [p for part in self.modules() if isinstance(part, SelfAttention) for p in part.parameters()]
        attention_ids = {id(parameter) for parameter in attention}
        groups = super().parameter_groups(learning_rate)
        for group in groups:
            group["params"] = [p for p in cast(list[nn.Parameter], group["params"]) if id(p) not in attention_ids]
        attention_group: dict[str, object] = {"params": attention, "lr": learning_rate * self.config.attention_rate}
        return [*groups, attention_group] if attention else groups

    def new_layers(self) -> list[nn.Module]:
        """List the layers that the paper adds to the backbone, with their norms."""
        return [self.backbone.get_submodule(name) for name in self._added]


def _attentions(channels: Sequence[int], config: MLDFRConfig) -> list[nn.Module]:
    return [
        SelfAttention(
            width, kernel, batch_norm=config.attention_batch_norm, neutral=config.attention_start == "neutral"
        )
        for width, kernel in zip(channels, config.kernels, strict=True)
    ]


def _between_stages(backbone: Backbone, config: MLDFRConfig) -> tuple[list[nn.Module], list[nn.Module]]:
    """The attentions behind each stage of the rebuilt backbone but the last, and the backbone's new layers."""
    added = rebuild(
        backbone, last=config.last, batch_norm=config.batch_norm, extra_channels=config.extra_channels,
        cut_after=config.after,
    )  # fmt: skip
    return _attentions(backbone.channels[:-1], config) if config.attention else [], added


def _within_timm_network(backbone: Backbone, config: MLDFRConfig) -> list[nn.Module]:
    """The attentions, inserted behind blocks of a network that is a single stage."""
    if not config.batch_norm:
        raise ModelError(f"Option 'batch_norm' of the localizer: it cannot be removed from {backbone.name}.")
    if not config.attention:
        return []
    places = timm_places(backbone, config.after)
    attentions = _attentions([channels for _, channels in places], config)
    for (path, _), attention in zip(places, attentions, strict=True):
        block = backbone.stages.get_submodule(path)
        backbone.stages.set_submodule(path, nn.Sequential(block, attention))
    return attentions


class SelfAttention(nn.Module):
    """Recalibrates features by channel, then by position (eq. 7).

    Args:
        channels: K.
        kernel: Size of the spatial attention's convolution.
        batch_norm: Whether both have a batch norm before the sigmoid; of momentum 0.01 as in the released code, unless
            neutral.
        neutral: Start as identity; both attentions are then in 0-2.
    """

    def __init__(self, channels: int, kernel: int, *, batch_norm: bool = False, neutral: bool = False) -> None:
        super().__init__()
        # 0.01 needs hundreds of steps until the statistics that mining uses are those of the features
        momentum = (0.1 if neutral else 0.01) if batch_norm else None
        self.channel = ChannelAttention(channels, norm_momentum=momentum)
        self.spatial = SpatialAttention(kernel, norm_momentum=momentum)
        self.gain = 2.0 if neutral else 1.0
        if neutral:
            for attention in (self.channel, self.spatial):
                # a norm would bring the smallest weights back to a variance of 1, unless its own scale starts at 0
                nn.init.zeros_(cast(Tensor, attention.norm.weight if batch_norm else attention.weigh.weight))

    def forward(self, features: Tensor) -> Tensor:
        """Recalibrate (B, K, H, W) features."""
        features = self.gain * self.channel(features) * features  # FR_c
        return self.gain * self.spatial(features) * features  # FR_s


class ChannelAttention(nn.Module):
    """Channel attention sigmoid(W_fc F_avg), with F_avg the mean of each channel (eq. 5)."""

    def __init__(self, channels: int, *, norm_momentum: float | None = None) -> None:
        super().__init__()
        self.weigh = nn.Conv2d(channels, channels, kernel_size=1, bias=False)
        self.norm = nn.Identity() if norm_momentum is None else _BatchNorm(channels, norm_momentum)
        nn.init.xavier_normal_(self.weigh.weight)

    def forward(self, features: Tensor) -> Tensor:
        """Compute (B, K, 1, 1) attention in 0-1 from (B, K, H, W) features."""
        return self.norm(self.weigh(features.mean(dim=(2, 3), keepdim=True))).sigmoid()


class SpatialAttention(nn.Module):
    """Spatial attention sigmoid(W_conv [F_avg, F_max]), of mean and maximum over channels (eq. 6)."""

    def __init__(self, kernel: int, *, norm_momentum: float | None = None) -> None:
        super().__init__()
        self.weigh = nn.Conv2d(2, 1, kernel_size=kernel, padding=kernel // 2, bias=False)
        self.norm = nn.Identity() if norm_momentum is None else _BatchNorm(1, norm_momentum)
        nn.init.xavier_normal_(self.weigh.weight)

    def forward(self, features: Tensor) -> Tensor:
        """Compute (B, 1, H, W) attention in 0-1 from (B, K, H, W) features."""
        described = torch.cat([features.mean(dim=1, keepdim=True), features.amax(dim=1, keepdim=True)], dim=1)
        return self.norm(self.weigh(described)).sigmoid()


class _BatchNorm(nn.BatchNorm2d):
    """Batch norm; a single value uses the running statistics."""

    def __init__(self, channels: int, momentum: float) -> None:
        super().__init__(channels, momentum=momentum)

    def forward(self, features: Tensor) -> Tensor:
        if self.training and features.numel() == features.shape[1]:
            return functional.batch_norm(
                features, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps
            )
        return super().forward(features)
