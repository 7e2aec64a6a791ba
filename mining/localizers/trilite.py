"""TriLite: foreground, background and ambiguous regions on the patches of a frozen vision transformer.

A 3x3 convolution with batch norm gives each patch three scores, which a softmax makes M^fg, M^bg and M^am. The mean of
the patch features weighted by M^fg, f^fg, is classified by a linear layer and must have the image's class; so must not
f^bg, the mean weighted by M^bg, which the same layer classifies. What is salient but of no use for either decision can
go to M^am, for which there is no loss. The image is classified by a linear layer of its own on the class token, so that
localization and classification do not compete. M^fg is the map.

    L = L_cls + L_fg + alpha L_bg,  L_bg = -log(1 - p_y(f^bg))

With ViT-S/14 and 1000 classes, 0.78 M parameters are trained.

Differences from the paper:

- Several labels per image (the paper has one): binary cross-entropy, and L_bg is the mean of -log(1 - p_c) over the
  image's labels.
- The features have the transformer's final norm; the released code reads them before it.
- alpha is 1, which is for few classes: see option `background_weight`.
- On backbones without a class token (SigLIP, convolutional networks), the mean of the cells takes its place.
- Maps are cut at half of their maximum; the paper reports the best of all thresholds.

Reference:
    Sabaghi, Oramas, "TriLite: Efficient Weakly Supervised Object Localization with Universal Visual Features and
    Tri-Region Disentanglement", CVPR 2026 (arXiv 2602.23120), and its released code.
"""

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from mining.backbones.base import Backbone
from mining.backbones.receptive_fields import CellGrid, cell_grid
from mining.config import Objective
from mining.localizers.base import ClassChoice, ClassificationLoss, Localization, Localizer, chosen_classes
from mining.localizers.option_values import build_config
from mining.localizers.options import TriLiteConfig

FOREGROUND, BACKGROUND = 0, 1  # channels of the regions; the third, if any, is ambiguous
_EPS = 1e-6


class TriLite(Localizer):
    """Two linear classifiers and one convolution on a frozen backbone; options in TriLiteConfig.

    The paper reports, with a frozen DINOv2 ViT-S/14: PxAP 73.3 % on OpenImages, and on ImageNet-1K 0.3, 2.2 and 2.9
    points more Top-1, Top-5 and GT-known localization accuracy than GenPromp.
    """

    Config = TriLiteConfig
    name: ClassVar[str] = "trilite"
    keeps_last: ClassVar[bool] = True  # the classification loss does not show what the regions improve
    trains_on_features: ClassVar[bool] = True
    inference_parts: ClassVar[tuple[str, ...]] = ("last_output",)

    def __init__(self, backbone: Backbone, classes: int, **options: Any) -> None:
        super().__init__()
        config: TriLiteConfig = build_config(TriLiteConfig, options)
        self.config = config
        self.backbone = backbone
        width, regions = backbone.channels[-1], 3 if config.regions == "three" else 2
        self.divide = nn.Sequential(
            nn.Conv2d(width, regions, config.kernel, padding=config.kernel // 2, bias=False), nn.BatchNorm2d(regions)
        )
        self.dropout = nn.Dropout(config.dropout)
        self.region_classifier = nn.Linear(width, classes)
        self.image_classifier = nn.Linear(width, classes)

    def last_output(self, images: Tensor) -> Tensor:
        """Compute the output of the backbone's last stage, class token included, from (B, 3, H, W) RGB values 0-255."""
        features = self.backbone.normalise(images)
        for stage in self.backbone.stages:
            features = stage(features)
        return features

    def regions(self, cells: Tensor) -> Tensor:
        """Compute M^fg, M^bg and M^am, (B, 3, h, w) float32 that add up to 1, from (B, D, h, w) cells."""
        with torch.autocast(cells.device.type, enabled=False):
            scores: Tensor = self.divide(cells.float())
        return scores.softmax(dim=1)

    def forward(self, images: Tensor) -> Tensor:
        """Classify (B, 3, H, W) RGB values 0-255: (B, C) logits."""
        return self._classify_image(self.last_output(images))

    def localize(self, images: Tensor, classes: ClassChoice) -> Localization:
        """Compute logits and M^fg, one map per image for all classes, in one pass."""
        output = self.last_output(images)
        logits = self._classify_image(output).float()
        wanted = chosen_classes(classes, logits).to(logits.device)
        maps = self.regions(self.backbone.cells_of(output))[:, FOREGROUND : FOREGROUND + 1]
        return Localization(logits, wanted, maps)

    def cell_grid(self, size: tuple[int, int]) -> CellGrid | None:
        """Return where the cells of the last features look, see Localizer."""
        return cell_grid(self.backbone, size)

    def _classify_image(self, output: Tensor) -> Tensor:
        logits: Tensor = self.image_classifier(self.dropout(self.backbone.image_vector(output)))
        return logits

    # --- training ----------------------------------------------------------------------------------------------------

    def training_step(self, images: Tensor, targets: Tensor, loss: ClassificationLoss) -> dict[str, Tensor]:
        """Compute the losses by name: 'classification', 'foreground' and 'background'."""
        return self._losses(self.last_output(images), targets, loss)

    def frozen_stages(self) -> Sequence[int]:
        """Return the last stage."""
        return (len(self.backbone.stages) - 1,)

    def condense(self, stages: Sequence[Tensor]) -> list[Tensor]:
        """Keep the output, class token included, in float16, which halves its size."""
        return [stages[0].half()]

    def logits_from(self, features: Sequence[Tensor]) -> Tensor:
        """Classify the output of the last stage: (B, C) logits."""
        return self._classify_image(features[0].float())

    def training_step_from(
        self, features: Sequence[Tensor], size: tuple[int, int], targets: Tensor, loss: ClassificationLoss
    ) -> dict[str, Tensor]:
        """Compute the losses of `training_step` from the output of the last stage."""
        return self._losses(features[0].float(), targets, loss)

    def _losses(self, output: Tensor, targets: Tensor, loss: ClassificationLoss) -> dict[str, Tensor]:
        cells = self.backbone.cells_of(output)
        regions = self.regions(cells)
        losses = {"classification": loss(self._classify_image(output).float(), targets)}
        foreground, background = (
            self.region_classifier(self.dropout(region_mean(cells, regions[:, channel]))).float()
            for channel in (FOREGROUND, BACKGROUND)
        )
        losses["foreground"] = loss(foreground, targets)
        if self.config.background_weight:
            adversarial = background_loss(background, targets, loss.objective)
            losses["background"] = self.config.background_weight * adversarial
        return losses


def region_mean(cells: Tensor, weights: Tensor) -> Tensor:
    """Compute f = sum_i M_i F_i / sum_i M_i, (B, D), from (B, D, h, w) cells and (B, h, w) weights."""
    total = torch.einsum("bdhw,bhw->bd", cells, weights.to(cells.dtype))
    return total / (weights.sum(dim=(1, 2))[:, None].to(cells.dtype) + _EPS)


def background_loss(logits: Tensor, targets: Tensor, objective: Objective) -> Tensor:
    """Compute L_bg, a scalar: the mean of -log(1 - p) over the labels that the background is classified as.

    Args:
        logits: (B, C) of the background.
        targets: (B, C) of 0 and 1; images without a label are left out.
        objective: 'single' for probabilities by softmax, 'multi' by sigmoid.
    """
    if objective == "single" and logits.shape[1] > 1:
        # log(1 - p_y) = logsumexp of the others - logsumexp of all, which does not round to log 0
        others = logits.masked_fill(targets > 0, -torch.inf)
        values = logits.logsumexp(dim=1) - others.logsumexp(dim=1)  # 0 without a label
        return values.sum() / targets.any(dim=1).sum().clamp(min=1)
    return (functional.softplus(logits) * targets).sum() / targets.sum().clamp(min=1)
