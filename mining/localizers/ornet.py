"""ORNet: online refinement of activation maps made from low-level features.

A small encoder-decoder inside the shallow layers of a classifier learns to mask their features (stage one). Then it is
refined by a fixed evaluator, which must recognise the object in the masked image (stage two).

The paper reports, with VGG16, a CorLoc of 86.19 on CUB-200-2011 (64.52 after stage one) and 68.27 on ImageNet-1K.

Differences from the paper, and from the released code where the paper leaves something open:

- The evaluator is trained beforehand in the paper, as with `train --evaluator MODEL`. Without one it learns the classes
  during stage one, on whole images, and shares no parameter with the classifier.
- The defaults are made for a dozen epochs on some hundreds of images, where the paper's settings (`preset: paper`)
  localize nothing: features up to stride 16, no erasing, a larger weight of the area loss, stage two at the full
  learning rate, and two options that are not in the paper: `rest` (the class must not be recognised in what the map
  leaves out) and `contrast` (the scale that the last batch norm starts with).
- Optionally, the image is continued beyond its borders when maps are made (option `margin`).
- Where the released code differs from the paper, the paper is followed: the code refines the last two blocks of the
  decoder only; erases every other map on average, each pixel with probability 0.2 + 0.6 p^a, which then replaces the
  map (options `erase_*`); and adds the channels of f^a of the 4th to 25th best classes to the area loss.
- Where the paper is silent, the released code is followed: p^a ends in a sigmoid (eq. 12 needs probabilities); the
  encoder-decoder is a U-net with leaky ReLUs, as wide as the shallow features; erasing applies to I p^a only, the
  losses use the whole p^a; and the class is predicted by the evaluator from the whole image. With `preset: paper` the
  shallow layers end at stride 4 and the U-net has a depth of 3, as there.

Reference:
    Xie et al., "Online Refinement of Low-level Feature Based Activation Map for Weakly Supervised Object Localization",
    ICCV 2021.
"""

import copy
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn
from torch.nn import functional

from mining.backbones.base import Backbone
from mining.backbones.receptive_fields import CellGrid, cell_grid
from mining.config import Objective
from mining.errors import ModelError
from mining.localizers.base import (
    ClassChoice,
    ClassificationLoss,
    Explanation,
    Localization,
    Localizer,
    chosen_classes,
)
from mining.localizers.cam import CAM
from mining.localizers.option_values import build_config
from mining.localizers.options import ORNetConfig
from mining.localizers.registry import LOCALIZERS

WIDEST = 64


class ORNet(Localizer):
    """Shallow layers and a generator that make one map, and an evaluator that classifies; options in ORNetConfig.

    With a frozen backbone, the class head, the generator and the evaluator's head are trained.

    Attributes:
        backbone: The classifier F^c; its deep layers are used in stage one only.
        shallow: Number of its shallow stages F_1^c.
        generator: F^g.
        evaluator: F^e, a classifier of its own that starts from the same pretrained weights; fixed in stage two.
        refining: Whether the training is in stage two.
        evaluator_is_trained: Whether the evaluator was trained beforehand, and is fixed in both stages.
    """

    Config = ORNetConfig
    name: ClassVar[str] = "ornet"
    keeps_last: ClassVar[bool] = True
    trains_in_stages: ClassVar[bool] = True
    inference_parts: ClassVar[tuple[str, ...]] = ("evaluator_logits", "activation")
    learning_rate: ClassVar[float] = 5e-3

    refining: bool = False
    evaluator_is_trained: bool = False

    def __init__(self, backbone: Backbone, classes: int, **options: Any) -> None:
        super().__init__()
        config = build_config(ORNetConfig, options)
        _refuse_contradictions(config, backbone)
        self.config = config
        self.threshold, self.normalise = LOCALIZERS[self.name].map_cut({"preset": config.preset})
        self.backbone = backbone
        self.shallow = shallow_stages(backbone, config.shallow_stride) if config.shallow is None else config.shallow
        channels = backbone.channels[self.shallow - 1]
        features = config.features or classes
        self.generator = Generator(channels, features, config.width or min(WIDEST, channels), config.depth)
        self.generator.start_with_contrast(config.contrast)
        self.auxiliary = nn.Conv2d(features, classes, kernel_size=1, bias=False)
        self.dropout = nn.Dropout(config.dropout)
        self.classifier = nn.Linear(backbone.channels[-1], classes)
        self.evaluator = CAM(copy.deepcopy(backbone), classes, dropout=config.dropout)

    # --- localizing ---------------------------------------------------------------------------------------------------

    def forward(self, images: Tensor) -> Tensor:
        """Classify (B, 3, H, W) RGB values 0-255 with the evaluator: (B, C) logits."""
        return self.evaluator_logits(images)

    def evaluator_logits(self, images: Tensor) -> Tensor:
        """Compute the evaluator's (B, C) logits."""
        return self.evaluator(images)

    def localize(self, images: Tensor, classes: ClassChoice) -> Localization:
        """Compute the evaluator's logits, and one map per image for all classes."""
        logits = self(images).float()
        wanted = chosen_classes(classes, logits).to(logits.device)
        return Localization(logits, wanted, self.maps(images, wanted))

    def maps(self, images: Tensor, classes: Tensor) -> Tensor:
        """Compute p^a, (B, 1, h, w) float32 in 0-1, with shallow layers and generator alone (Fig. 5c)."""
        cells, around = self.config.margin, self._margin_px()
        if not cells:
            return self.activation(images)
        continued = functional.pad(images.to(self.backbone.mean.dtype), (around,) * 4, mode="replicate")
        return self.activation(continued)[..., cells:-cells, cells:-cells]

    def explain(self, images: Tensor, classes: Tensor) -> dict[str, Explanation]:
        """Show p^a, and the image multiplied by it with what the evaluator makes of that (eq. 9)."""
        activation = self.maps(images, classes)
        return {
            "p^a": Explanation(activation, "probability"),
            "image x p^a": Explanation(activation, "product", logits=self._evaluated(images, activation).float()),
        }

    def _margin_px(self) -> int:
        return self.config.margin * self.backbone.strides[self.shallow - 1]

    def cell_grid(self, size: tuple[int, int]) -> CellGrid | None:
        """Return where the cells of the shallow features look, see Localizer."""
        around = self._margin_px()
        grid = cell_grid(self.backbone, (size[0] + 2 * around, size[1] + 2 * around), self.shallow - 1)
        return None if grid is None else grid.moved(self.config.margin, self.config.margin, -around)

    def activation(self, images: Tensor) -> Tensor:
        """Compute p^a, (B, 1, h, w) float32 in 0-1, of the images as they are."""
        return self.generator(self._shallow_features(images))[0]

    def _shallow_features(self, images: Tensor) -> Tensor:
        """f^c = F_1^c(I), (B, c, h, w) (eq. 1, 7)."""
        return self.backbone.cells_of(self._shallow_output(images))

    def _shallow_output(self, images: Tensor) -> Tensor:
        return _through(self.backbone.stages[: self.shallow], self.backbone.normalise(images))

    # --- training ----------------------------------------------------------------------------------------------------

    def training_step(self, images: Tensor, targets: Tensor, loss: ClassificationLoss) -> dict[str, Tensor]:
        """Compute the losses of the current stage, multiplied by their weights."""
        return self._refinement(images, targets, loss) if self.refining else self._generation(images, targets, loss)

    def _generation(self, images: Tensor, targets: Tensor, loss: ClassificationLoss) -> dict[str, Tensor]:
        """Stage one: L_c of both heads, and the evaluator's own loss unless it was trained beforehand."""
        output = self._shallow_output(images)
        low = self.backbone.cells_of(output)
        activation, features = self.generator(low)
        masked = self.backbone.with_cells(output, activation.to(low.dtype) * low)
        deep = self.backbone.cells_of(_through(self.backbone.stages[self.shallow :], masked))
        logits = self.classifier(self.dropout(deep.mean(dim=(2, 3))))  # eq. 3
        losses = {"classification": loss(logits.float(), targets)}  # eq. 5
        if self.config.auxiliary:
            # the mean of a 1x1 convolution equals the convolution of the mean (eq. 4)
            guess = self.auxiliary(features.mean(dim=(2, 3), keepdim=True)).flatten(1)
            losses["auxiliary"] = self.config.auxiliary * loss(guess.float(), targets)  # eq. 6
        if self.evaluator_is_trained:
            return losses
        return losses | {"evaluator": loss(self.evaluator(images).float(), targets)}

    def _refinement(self, images: Tensor, targets: Tensor, loss: ClassificationLoss) -> dict[str, Tensor]:
        """Stage two: L = L_e + alpha L_w + beta L_a (eq. 10), and the loss of the rest where it has a weight."""
        config = self.config
        activation = self.activation(images)
        losses = {}
        if config.evaluation:
            shown = attentively_erased(activation, config) if config.erase else activation
            losses["evaluation"] = config.evaluation * loss(self._evaluated(images, shown).float(), targets)
        if config.rest:
            logits = self._evaluated(images, 1 - activation).float()
            losses["rest"] = config.rest * rest_loss(logits, targets, loss.objective)
        if config.alpha:
            weighted = config.entropy == "weighted"
            entropy = (
                weighted_entropy_loss(activation, config.mu, config.sigma) if weighted else entropy_loss(activation)
            )
            losses["entropy"] = config.alpha * entropy
        if config.beta:
            losses["area"] = config.beta * area_loss(activation)
        return losses

    def _evaluated(self, images: Tensor, activation: Tensor) -> Tensor:
        """Compute y = F^e(I p^a), (B, C) (eq. 9); masked pixels have the mean colour, which becomes 0."""
        backbone = self.evaluator.backbone
        mask = functional.interpolate(activation, images.shape[-2:], mode=self.config.upsampling)
        return self.evaluator.logits(backbone.cells_of(_through(backbone.stages, backbone.normalise(images) * mask)))

    def use_evaluator(self, classifier: Localizer) -> None:
        """Take a trained classifier of the same backbone and classes as evaluator, in both stages."""
        self.evaluator.load_state_dict(classifier.state_dict())
        self.evaluator_is_trained = True
        self.evaluator.requires_grad_(False)
        self.train(self.training)

    def start_epoch(self, epoch: int, epochs: int) -> None:
        """Enter the stage of the epoch, and fix in stage two what the paper fixes."""
        self.refining = epoch >= epochs_of_stage_one(epochs, self.config.stage_one)
        for part in self._fixed_in_refinement():
            part.requires_grad_(not self.refining)
        if self.evaluator_is_trained:
            self.evaluator.requires_grad_(False)
        if self.frozen:
            self.freeze_backbone()
        self.train(self.training)

    def _fixed_in_refinement(self) -> list[nn.Module]:
        fixed: list[nn.Module] = [self.evaluator]
        return fixed if self.config.refine_shallow else [*fixed, self.backbone.stages[: self.shallow]]

    def parameter_groups(self, learning_rate: float) -> list[dict[str, object]]:
        """Return the groups of both stages: new layers at the full rate, both unfrozen networks at a tenth of it."""
        networks = (self.backbone, self.evaluator.backbone)
        old = [p for network in networks for p in network.parameters() if p.requires_grad]
        inherited = self.pretrained_parameters()
        new = [p for p in self.parameters() if id(p) not in inherited]
        groups: list[dict[str, object]] = [{"params": new, "lr": learning_rate}]
        return [*groups, {"params": old, "lr": learning_rate / 10}] if old else groups

    def pretrained_parameters(self) -> set[int]:
        """Return the ids of the parameters of both networks."""
        return super().pretrained_parameters() | {id(p) for p in self.evaluator.backbone.parameters()}

    def freeze_backbone(self) -> None:
        """Keep the pretrained features of classifier and evaluator as they are."""
        super().freeze_backbone()
        self.evaluator.freeze_backbone()

    def train(self, mode: bool = True) -> Self:
        """Set training or evaluation mode; what stage two fixes stays in evaluation mode in it."""
        super().train(mode)
        if self.evaluator_is_trained:
            self.evaluator.eval()
        if self.refining:
            for part in self._fixed_in_refinement():
                part.eval()
        return self


class Generator(nn.Module):
    """The generator F^g: encoder-decoder, convolution, batch norm (eq. 2)."""

    def __init__(self, channels: int, features: int, width: int, depth: int) -> None:
        super().__init__()
        self.decoded = EncoderDecoder(channels, features, width, depth)
        self.activation = nn.Sequential(nn.Conv2d(features, 1, kernel_size=3, padding=1, bias=False), nn.BatchNorm2d(1))

    def start_with_contrast(self, scale: float) -> None:
        """Set the scale of the last batch norm."""
        norm = self.activation[-1]
        assert isinstance(norm, nn.BatchNorm2d)
        nn.init.constant_(norm.weight, scale)

    def forward(self, low: Tensor) -> tuple[Tensor, Tensor]:
        """Compute p^a, (B, 1, h, w) float32 in 0-1, and f^a, (B, k, h, w), from (B, c, h, w) low-level features f^c."""
        features = self.decoded(low)
        return self.activation(features).float().sigmoid(), features


class EncoderDecoder(nn.Module):
    """The encoder-decoder F^d as a U-net that halves the map `depth` times."""

    def __init__(self, channels: int, outputs: int, width: int, depth: int) -> None:
        super().__init__()
        widths = [channels, *(width * 2**level for level in range(1, depth + 1))]
        made = [outputs, *widths[1:-1]]
        self.encoder = nn.ModuleList(_two_convolutions(widths[i], widths[i + 1]) for i in range(depth))
        self.decoder = nn.ModuleList(
            _two_convolutions(widths[i] + widths[i + 1], made[i]) for i in reversed(range(depth))
        )

    def forward(self, features: Tensor) -> Tensor:
        """Compute (B, outputs, h, w) from (B, c, h, w); odd sides are rounded up on the way down and restored."""
        skipped = []
        for block in self.encoder:
            skipped.append(features)
            features = block(functional.max_pool2d(features, 2, ceil_mode=True))
        for block, skip in zip(self.decoder, reversed(skipped), strict=True):
            upsampled = functional.interpolate(features, skip.shape[-2:], mode="bilinear")
            features = block(torch.cat([skip, upsampled], dim=1))
        return features


# --- losses of stage two, p^a as (B, 1, h, w) float32 in 0-1 ---------------------------------------------------------


def pixel_entropy(activation: Tensor) -> Tensor:
    """Compute H(X_ij) = -p log p - (1 - p) log(1 - p), of the activation's shape (eq. 12)."""
    # slightly inside 0 and 1, where the slope of the entropy is infinite
    margin = torch.finfo(activation.dtype).eps
    p = activation.clamp(margin, 1 - margin)
    return -p * p.log() - (1 - p) * (1 - p).log()


def entropy_loss(activation: Tensor) -> Tensor:
    """Compute L_h, a scalar: the mean entropy (eq. 13)."""
    return pixel_entropy(activation).mean()


def weighted_entropy_loss(activation: Tensor, mu: float, sigma: float) -> Tensor:
    """Compute L_w, a scalar: the mean entropy, weighted by a Gaussian around the least certain value (eq. 14, 15)."""
    gamma = torch.exp(-((activation - mu) ** 2) / (2 * sigma**2))
    return (gamma * pixel_entropy(activation)).mean()


def area_loss(activation: Tensor) -> Tensor:
    """Compute L_a, a scalar: the mean activation (eq. 16)."""
    return activation.mean()


def rest_loss(logits: Tensor, targets: Tensor, objective: Objective) -> Tensor:
    """Compute -log(1 - P(c | the image without the object)), a scalar: the mean over the images, or the classes shown.

    Not in the paper.

    Args:
        logits: (B, C), the evaluator's on I (1 - p^a).
        targets: (B, C) of 0 and 1; an image without a class costs nothing.
        objective: 'single' has one class per image, and P is a softmax; 'multi' several, and P is a sigmoid.
    """
    if objective == "single":
        others = logits.masked_fill(targets > 0, -torch.inf).logsumexp(dim=1)
        return (logits.logsumexp(dim=1) - others).mean()
    return (functional.softplus(logits) * targets).sum() / targets.sum().clamp(min=1)


# --- attentive erasing -----------------------------------------------------------------------------------------------


def attentively_erased(activation: Tensor, config: ORNetConfig) -> Tensor:
    """Erase candidate pixels of p^a, (B, 1, h, w), at random (Fig. 7d); gradients pass through the others."""
    p = activation.detach()
    probability = 0.2 + 0.6 * p if config.erase_probability == "adaptive" else config.erase_probability
    chosen = torch.rand(len(p), 1, 1, 1, device=p.device) < config.erase_share
    dropped = erasing_candidates(p, config) & chosen & (torch.rand_like(p) < probability)
    return activation.masked_fill(dropped, 0.0)


def erasing_candidates(activation: Tensor, config: ORNetConfig) -> Tensor:
    """Find the pixels above a threshold inside a random rectangle around the peak (Fig. 7c): (B, 1, h, w) bool.

    A constant map has none.
    """
    height, width = activation.shape[-2:]
    peak, place = activation.flatten(1).max(dim=1)
    depth = _uniform(activation, config.erase_depth_least, config.erase_depth)
    threshold = peak - depth * (peak - activation.flatten(1).amin(dim=1))
    high = activation > threshold.view(-1, 1, 1, 1)
    rows = _within(high.any(dim=3).flatten(1), place // width, config.erase_least)
    columns = _within(high.any(dim=2).flatten(1), place % width, config.erase_least)
    return high & rows.view(-1, 1, height, 1) & columns.view(-1, 1, 1, width)


def _within(high: Tensor, centre: Tensor, least: float) -> Tensor:
    """One side of the rectangle: (B, n) bool, cells of a random length around the (B,) centre.

    high: (B, n) bool, whether a row or column has a pixel above the threshold.
    """
    cells = torch.arange(high.shape[1], device=high.device)
    first = torch.where(high, cells, high.shape[1]).amin(dim=1)
    last = torch.where(high, cells, -1).amax(dim=1)
    shortest = least * high.shape[1]
    longest = (last - first + 1).clamp(min=shortest)
    length = shortest + torch.rand(len(high), device=high.device) * (longest - shortest)
    return (cells - centre[:, None]).abs() <= length[:, None] / 2


def _uniform(like: Tensor, low: float, high: float) -> Tensor:
    return low + (high - low) * torch.rand(len(like), device=like.device)


# --- helpers ----------------------------------------------------------------------------------------------------


def shallow_stages(backbone: Backbone, least: int) -> int:
    """Return how many stages of the backbone reach a stride, or the first larger one; never its last stage."""
    reached = (i for i, stride in enumerate(backbone.strides, start=1) if stride >= least)
    before_last = max(1, len(backbone.strides) - 1)
    return min(next(reached, before_last), before_last)


def epochs_of_stage_one(epochs: int, share: float) -> int:
    """Return the rounded share of the epochs; each stage has at least one, unless the share or the number is 1."""
    return epochs if share == 1 else max(1, min(round(share * epochs), epochs - 1))


def _refuse_contradictions(config: ORNetConfig, backbone: Backbone) -> None:
    if config.shallow is not None and config.shallow > len(backbone.stages):
        raise ModelError(f"Option 'shallow': {backbone.name} has {len(backbone.stages)} stages (got {config.shallow}).")
    if config.erase_depth_least > config.erase_depth:
        raise ModelError(
            f"Option 'erase_depth_least' must not exceed 'erase_depth' (got {config.erase_depth_least} and "
            f"{config.erase_depth})."
        )
    if config.stage_one < 1 and not (config.evaluation or config.alpha or config.beta or config.rest):
        raise ModelError(
            "Stage two has no loss: give a weight to option evaluation, alpha, beta or rest, or set stage_one to 1."
        )


def _two_convolutions(channels: int, outputs: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for inputs in (channels, outputs):
        layers += [nn.Conv2d(inputs, outputs, kernel_size=3, padding=1, bias=False), nn.BatchNorm2d(outputs)]
        layers.append(nn.LeakyReLU(inplace=True))
    return nn.Sequential(*layers)


def _through(stages: nn.ModuleList, features: Tensor) -> Tensor:
    for stage in stages:
        features = stage(features)
    return features
