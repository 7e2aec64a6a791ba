"""SPG: self-produced guidance.

The classifier's attention map yields masks of its most and least confident pixels, and these masks supervise the
features that the map is made from, stage by stage.

    image -> Stem -> A1 -> A2 -> A3 -> A4 -> global average -> class logits
                     |     |     |     '---- attention map O ---> seeds of B2
                     |     |     '--> C  <--- mask of (B1 + B2) / 2
                     |     '--> B2  <-------- mask of O
                     '--> B1  <-------------- mask of B2

The map that localizes is the attention map of A (section 3.2, testing); B and C are not run then. With a frozen
backbone the first two blocks are weak features by themselves: option third_block helps more there than the guidance
does.

The paper reports, with InceptionV3, 64.69 % GT-known localization on ILSVRC (table 4: SPG-plain 62.68, without C 63.94,
without the cascade 64.42, B1 and B2 unshared 63.69), top-1 localization 48.60 % there and 46.64 % on CUB-200-2011.

Differences from the paper, and from the released code where the paper leaves something open:

- Blocks. A1 and A2 are InceptionV3's first and second Inception block, and what lies behind is removed (section 3.3).
  In general: A1 is the last stage of the backbone before its last down-sampling, A2 the first behind it, and the
  stages after A2 are removed. That is the output of the stages with stride 8 and 16: Mixed_5d and Mixed_6e of
  InceptionV3 (288 and 768 channels), conv4_3 and conv5_3 of VGG16 (512, 512), layer2 and layer3 of ResNet50
  (512, 1024), blocks 2 and 4 of EfficientNet-Lite0 (40, 112). Of a network that is a single stage, both read that
  stage. The released code removes the stride of the second block as well (28 x 28 maps of 224 px) and feeds B2 from the
  last but one of its modules (Mixed_6d); ports to ResNet50 keep layer4 in A3 (option third_block).
- First layers of B. "288 and 768 filters" is read as their input: their outputs go into one shared layer of 512
  filters, and section 3.1 lets them adapt the number of channels.
- C. Section 3.1 has one 3x3 convolution, as the released code does; section 3.3 has two. Here it is one (option
  c_layers): with it, SPG on InceptionV3 with 1000 classes has the 38.45 M parameters that mLDFR's table V counts, with
  two 40.81 M. C reads the features of A3, so that the guidance reaches A without passing the class filters.
- Thresholds of the fused mask are not given; those of B2 are used, as in the released code. (For the seeds of B2
  that has 0.05 and 0.7.)
- Sigmoid or resizing first: the branches' logits are resized, then go through the sigmoid, as in the released code.
- Several labels in an image: B and C distinguish objects from background, not classes, so that there is one mask per
  image. O is the maximum over the labels of the normalised class maps: a pixel is object if it surely is one of any
  label, background only if it surely is none of any. With one label this is the paper's O.
- An image without a label, or whose attention map is constant, has no seeds. It is ignored in all three masks.
- The losses of the branches are means over all pixels of the batch that are 0 or 1, and 0 where there are none.
- The paper mentions no dropout; the released code has 0.5, also at test time. Here it is an option, in training only.
- New layers start from Xavier's uniform distribution, biases from 0, as in the released code.
- In the released code the mask of an image depends on those before it in the batch; never here (fewest_object_px).
- Evaluation: squares, ten crops, the largest region, SPG* and other classifiers' classes are settings of mining and
  scoring, see docs/methods/spg.md.

Reference:
    Zhang, Wei, Kang, Yang, Huang, "Self-produced Guidance for Weakly-supervised Object Localization", ECCV 2018.
"""

from collections.abc import Sequence
from typing import Any, ClassVar, Literal, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from mining.backbones.base import Backbone
from mining.backbones.receptive_fields import CellGrid, cell_grid
from mining.localizers.base import (
    NO_CLASS,
    ClassChoice,
    ClassificationLoss,
    Explanation,
    Localization,
    Localizer,
    chosen_classes,
)
from mining.localizers.option_values import build_config
from mining.localizers.options import SPGConfig
from mining.localizers.registry import LOCALIZERS

BACKGROUND, OBJECT, IGNORED = 0, 1, 255
_MIN_RANGE = 1e-6  # of a map's largest value: interpolation alone spreads a constant map by a tenth of it
_CLASSES_AT_ONCE = 16  # maps brought to the size of the image together


class SPG(Localizer):
    """A classifier whose features learn object and background from masks of its own maps; options in SPGConfig."""

    Config = SPGConfig
    name: ClassVar[str] = "spg"
    keeps_last: ClassVar[bool] = True  # the classification loss does not show what the guidance improves
    trains_on_features: ClassVar[bool] = True
    inference_parts: ClassVar[tuple[str, ...]] = ("last_features",)
    learning_rate: ClassVar[float] = 3e-4  # 0.003 makes its stacks of convolutions diverge in the first epoch

    def __init__(self, backbone: Backbone, classes: int, **options: Any) -> None:
        super().__init__()
        config: SPGConfig = build_config(SPGConfig, options)
        self.config = config
        self.threshold, self.normalise = LOCALIZERS[self.name].map_cut({"preset": config.preset})
        self.places = guided_stages(backbone.strides)
        if not config.third_block:
            backbone.keep(self.places[1] + 1)
        self.backbone = backbone
        self.a3, width = _convolutions(backbone.channels[-1], config.width, config.a3_layers, config.dropout)
        self.dropout = nn.Dropout(config.dropout)
        self.a4 = nn.Conv2d(width, classes, kernel_size=1)
        if config.branches != "A":
            self.b_first = nn.ModuleList(
                _convolutions(backbone.channels[place], config.guidance_width, 1)[0] for place in self.places
            )
            self.b_rest = nn.ModuleList(_saliency(config.guidance_width, config) for _ in range(2 - config.shared))
        if config.branches == "ABC":
            self.c = _saliency(width, config, config.c_layers)
        _start(*(module for name, module in self.named_children() if name != "backbone"))

    def features(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Compute F^A1 (B, D1, h1, w1), F^A2 (B, D2, h, w) and A3's (B, D3, h, w) from (B, 3, H, W) RGB values."""
        stages = self.backbone(images)
        first, second = self.places
        return stages[first], stages[second], self.dropout(self.a3(stages[-1]))

    def last_features(self, images: Tensor) -> Tensor:
        """Compute A3's (B, D3, h, w) features alone."""
        return self.features(images)[-1]

    def logits(self, features: Tensor) -> Tensor:
        """Classify A3's (B, D3, h, w) features, by the global average of A4: (B, C) logits."""
        # averaging first gives the same sum as convolving first, and saves C maps
        return self.a4(features.mean(dim=(2, 3), keepdim=True)).flatten(1)

    def class_maps(self, features: Tensor, classes: Tensor, background: Literal["mean", "none"] = "none") -> Tensor:
        """Compute F^A4 of (B, K) classes, (B, K, h, w) float32, from A3's features; undefined for NO_CLASS."""
        kernel, bias = self.a4.weight.flatten(1), cast(Tensor, self.a4.bias)
        if background == "mean" and len(kernel) > 1:
            kernel, bias = kernel - kernel.mean(dim=0), bias - bias.mean()
        maps = torch.einsum("bkc,bchw->bkhw", kernel[classes.clamp(min=0)].to(features.dtype), features).float()
        return maps + bias[classes.clamp(min=0)].float()[..., None, None]

    def forward(self, images: Tensor) -> Tensor:
        """Classify (B, 3, H, W) RGB values 0-255: (B, C) logits."""
        return self.logits(self.last_features(images))

    def localize(self, images: Tensor, classes: ClassChoice) -> Localization:
        """Compute logits and the attention maps of the classes asked for, in one pass."""
        features = self.last_features(images)
        logits = self.logits(features).float()
        wanted = chosen_classes(classes, logits).to(logits.device)
        return Localization(logits, wanted, self.class_maps(features, wanted, self.config.background))

    def explain(self, images: Tensor, classes: Tensor) -> dict[str, Explanation]:
        """Show the attention map, the branches' maps, and the mask that each of these makes (Fig. 4; algorithm 1).

        Masks distinguish objects from background, so that there is one per image for all classes asked for: the mask
        that a training makes of an image with these labels.
        """
        size = (images.shape[-2], images.shape[-1])
        first, second, features = self.features(images)
        attention, has_seeds = attention_of_labels(self.class_maps(features, classes), classes != NO_CLASS, size)
        if self.config.branches == "A":
            return {"A": Explanation(attention[:, None], "probability")}
        logits = self.branches(first, second, features, size)
        maps = {"A": attention} | {name.upper(): logits[name].sigmoid() for name in logits}
        masks = self.masks(attention, has_seeds, logits["b1"], logits["b2"])
        taught = {"A": "b2", "B2": "b1" if self.config.cascade else None, "(B1 + B2) / 2": "c"}
        made = {f"mask of {name}": masks[branch] for name, branch in taught.items() if branch in logits}
        order = ("A", "mask of A", "B2", "mask of B2", "B1", "mask of (B1 + B2) / 2", "C")
        return {name: _shown((maps | made)[name]) for name in order if name in maps | made}

    def cell_grid(self, size: tuple[int, int]) -> CellGrid | None:
        """Return where the cells of the last features look, see Localizer."""
        return cell_grid(self.backbone, size)

    def training_step(self, images: Tensor, targets: Tensor, loss: ClassificationLoss) -> dict[str, Tensor]:
        """Compute the classification loss and those of the branches, 'b2', 'b1' and 'c' (algorithm 1)."""
        size = (images.shape[-2], images.shape[-1])
        return self._losses(*self.features(images), size, targets, loss)

    def frozen_stages(self) -> Sequence[int]:
        """Return A1, A2 and the last stage, each once."""
        return sorted({*self.places, len(self.backbone.stages) - 1})

    def condense(self, stages: Sequence[Tensor]) -> list[Tensor]:
        """Keep the features in float16, which halves their size."""
        return [self.backbone.cells_of(stage).half() for stage in stages]

    def logits_from(self, features: Sequence[Tensor]) -> Tensor:
        """Classify the features of the last stage: (B, C) logits."""
        return self.logits(self.dropout(self.a3(features[-1].float())))

    def training_step_from(
        self, features: Sequence[Tensor], size: tuple[int, int], targets: Tensor, loss: ClassificationLoss
    ) -> dict[str, Tensor]:
        """Compute the losses of `training_step` from the features of `frozen_stages`."""
        of_stage = dict(zip(self.frozen_stages(), (one.float() for one in features), strict=True))
        first, second = (of_stage[place] for place in self.places)
        last = of_stage[len(self.backbone.stages) - 1]
        return self._losses(first, second, self.dropout(self.a3(last)), size, targets, loss)

    def _losses(
        self,
        first: Tensor,
        second: Tensor,
        features: Tensor,
        size: tuple[int, int],
        targets: Tensor,
        loss: ClassificationLoss,
    ) -> dict[str, Tensor]:
        """Compute the losses from F^A1, F^A2 and A3's features of images of (height, width) px."""
        losses = {"classification": loss(self.logits(features), targets)}
        if self.config.branches == "A":
            return losses
        attention, has_seeds = self.attention(features, targets, size, loss)
        branches = self.branches(first, second, features, size)
        masks = self.masks(attention, has_seeds, branches["b1"], branches["b2"])
        weight = self.config.guidance_weight
        return losses | {name: weight * guidance_loss(branches[name], masks[name]) for name in branches}

    @torch.no_grad()
    def attention(
        self, features: Tensor, targets: Tensor, size: tuple[int, int], loss: ClassificationLoss
    ) -> tuple[Tensor, Tensor]:
        """Compute the localization map O of each image's labels (algorithm 1, line 3).

        Args:
            features: (B, D3, h, w) of A3.
            targets: (B, C) of 0 and 1.
            size: (H, W), size of the image.
            loss: Its objective says whether an image has several labels.

        Returns:
            (B, H, W) in 0-1, and (B,) bool, whether it has seeds: not without a label or where all maps are constant.
        """
        if loss.objective == "multi":
            return attention_of_labels(self.a4(features).float(), targets, size)
        label = targets.argmax(dim=1, keepdim=True)
        return attention_of_labels(self.class_maps(features, label), targets.gather(1, label), size)

    def branches(self, first: Tensor, second: Tensor, features: Tensor, size: tuple[int, int]) -> dict[str, Tensor]:
        """Compute each branch's logits of object against background, (B, H, W), from F^A1, F^A2 and A3's features."""
        logits_of = {
            "b2": self.b_rest[-1](self.b_first[1](second)),
            "b1": self.b_rest[0](self.b_first[0](first)),
        }
        if self.config.branches == "ABC":
            logits_of["c"] = self.c(features)
        return {name: resized(logits.float(), size)[:, 0] for name, logits in logits_of.items()}

    @torch.no_grad()
    def masks(self, attention: Tensor, has_seeds: Tensor, b1: Tensor, b2: Tensor) -> dict[str, Tensor]:
        """Make each branch's mask, (B, H, W) uint8 of BACKGROUND, OBJECT, IGNORED (algorithm 1, lines 4-8).

        Args:
            attention: (B, H, W) in 0-1.
            has_seeds: (B,) bool; images without seeds are ignored.
            b1: (B, H, W) logits of B1.
            b2: (B, H, W) logits of B2.
        """
        config = self.config
        maps = {"b2": (attention, config.b2), "b1": (attention, config.b2)}
        if config.cascade:
            maps["b1"] = b2.sigmoid(), config.b1
        maps["c"] = (b1.sigmoid() + b2.sigmoid()) / 2, config.fused
        return {
            name: guidance_mask(
                saliency, *thresholds, fewest_object_px=config.fewest_object_px, fallback=config.fallback
            ).masked_fill(~has_seeds[:, None, None], IGNORED)
            for name, (saliency, thresholds) in maps.items()
        }


# --- the paper's steps -----------------------------------------------------------------------------------------------


def guided_stages(strides: tuple[int, ...]) -> tuple[int, int]:
    """Return the indices of A1 and A2 among the stages: the last before the last down-sampling, the first behind it.

    Of stages of one stride (transformers), they are the last two.
    """
    second = strides.index(strides[-1]) if len(set(strides)) > 1 else len(strides) - 1
    return max(0, second - 1), second


def resized(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize (B, K, h, w) maps to (B, K, H, W), bilinear, with cell centres aligned."""
    return functional.interpolate(maps, size, mode="bilinear", align_corners=False)


def attention_of_labels(maps: Tensor, present: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Compute the maximum over the present classes of their maps, each resized and then normalised to 0-1.

    Args:
        maps: (B, K, h, w) float32.
        present: (B, K) of 0 and 1.
        size: (H, W).

    Returns:
        (B, H, W) float32, 0 where no class is present or all maps are constant; and (B,) bool, whether a map is not.
    """
    attention = maps.new_zeros((len(maps), *size))
    has_map = torch.zeros(len(maps), dtype=torch.bool, device=maps.device)
    # in pieces and for absent classes too, because asking which classes the batch has would wait for the GPU
    pieces = zip(torch.split(maps, _CLASSES_AT_ONCE, 1), torch.split(present, _CLASSES_AT_ONCE, 1), strict=True)
    for some, wanted in pieces:
        levels, varied = min_max(resized(some, size))
        shown = varied & (wanted > 0)
        attention = torch.maximum(attention, levels.masked_fill(~shown[..., None, None], 0).amax(dim=1))
        has_map |= shown.any(dim=1)
    return attention, has_map


def min_max(maps: Tensor) -> tuple[Tensor, Tensor]:
    """Normalise (B, K, H, W) maps to 0-1 each, constant ones to 0; also return which are not, (B, K) bool."""
    lowest, highest = maps.amin(dim=(2, 3), keepdim=True), maps.amax(dim=(2, 3), keepdim=True)
    span = highest - lowest
    varied = span > _MIN_RANGE * torch.maximum(highest.abs(), lowest.abs())
    levels = (maps - lowest) / span.where(varied, 1)
    return levels.where(varied, 0), varied[..., 0, 0]


def guidance_mask(
    saliency: Tensor, low: float, high: float, *, fewest_object_px: int = 0, fallback: float = 0.7
) -> Tensor:
    """Make a mask by eq. 1: BACKGROUND below `low`, OBJECT above `high`, IGNORED between them and where NaN.

    Args:
        saliency: (B, H, W) in 0-1.
        low: delta_l.
        high: delta_h.
        fewest_object_px: An image with fewer object pixels takes those above `fallback` times its maximum.
        fallback: See fewest_object_px.

    Returns:
        (B, H, W) uint8.
    """
    is_object = saliency > high
    if fewest_object_px:
        too_few = is_object.sum(dim=(1, 2), keepdim=True) < fewest_object_px
        best = saliency > fallback * saliency.amax(dim=(1, 2), keepdim=True)
        is_object = best.where(too_few, is_object)
    mask = torch.full_like(saliency, IGNORED, dtype=torch.uint8)
    # background last: even the best pixels of a faint map are background
    return mask.masked_fill(is_object, OBJECT).masked_fill(saliency < low, BACKGROUND)


def guidance_loss(logits: Tensor, mask: Tensor) -> Tensor:
    """Compute the mean binary cross-entropy over the pixels that are not IGNORED; 0 where all are ignored.

    Args:
        logits: (B, H, W) float32.
        mask: (B, H, W) uint8 of BACKGROUND, OBJECT and IGNORED.
    """
    known = mask != IGNORED
    losses = functional.binary_cross_entropy_with_logits(logits, (mask == OBJECT).to(logits.dtype), reduction="none")
    return (losses * known).sum() / known.sum().clamp(min=1)


# --- layers ----------------------------------------------------------------------------------------------------------


def _shown(values: Tensor) -> Explanation:
    """A (B, H, W) map, or uint8 mask, as it is drawn."""
    if values.dtype != torch.uint8:
        return Explanation(values[:, None], "probability")
    shares = torch.where(values == IGNORED, 0.5, (values == OBJECT).float())
    return Explanation(shares[:, None], "mask")


def _convolutions(channels: int, width: int, count: int, dropout: float = 0.0) -> tuple[nn.Sequential, int]:
    """`count` 3x3 convolutions of stride 1 and padding 1, each with a ReLU, and the channels of their output."""
    layers: list[nn.Module] = []
    for _ in range(count):
        layers += [nn.Dropout(dropout), nn.Conv2d(channels, width, kernel_size=3, padding=1), nn.ReLU()]
        channels = width
    return nn.Sequential(*layers), channels


def _saliency(channels: int, config: SPGConfig, count: int = 1) -> nn.Sequential:
    """Convolutions to one logit per pixel: the second and third layers of B, and all of C."""
    layers, width = _convolutions(channels, config.guidance_width, count)
    return nn.Sequential(*layers, nn.Conv2d(width, 1, kernel_size=1))


def _start(*modules: nn.Module) -> None:
    for module in modules:
        for layer in module.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.xavier_uniform_(layer.weight)
                if layer.bias is not None:
                    nn.init.zeros_(layer.bias)
