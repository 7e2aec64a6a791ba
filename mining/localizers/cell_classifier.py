"""A classifier of single cells, with a background class, that learns from a localizer's own activation maps.

A classifier of whole images needs only the most discriminative part of an object, so its activation maps show that
part. The cells of high activation are mostly right, though, and those of no activation are background. A small
classifier learns these two kinds of cells from the features of the last and of the middle stages, and then decides on
the cells between them; the middle stages carry the boundary of the object. mining/training/cells.py trains it.
"""

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from mining.backbones.base import Backbone
from mining.localizers.base import NO_CLASS
from mining.localizers.options import CellSpec

LAST_COMPONENTS = 96  # principal components of the last stage
MIDDLE_COMPONENTS = 128  # most components of a middle stage; stages with fewer channels keep them all
MIDDLE_STAGES = 2
DROPOUT = 0.3
CLIP = 6.0  # standard deviations


def cell_spec(backbone: Backbone) -> CellSpec:
    """Return the shape of the cell classifier for a backbone: its last stage and the stages before it.

    A backbone of one stage (any model of timm that is not listed) has no middle stages; its cells are classified, and
    compared, by the last stage alone.
    """
    last = len(backbone.channels) - 1
    middle = list(range(max(0, last - MIDDLE_STAGES), last))[::-1]
    components = [min(MIDDLE_COMPONENTS, backbone.channels[stage]) for stage in middle]
    return CellSpec([last, *middle], [min(LAST_COMPONENTS, backbone.channels[last]), *components])


class Projection(nn.Module):
    """An affine projection of a stage's channels: (B, D, h, w) to (B, P, h, w), clipped to 6 standard deviations.

    Args:
        channels: D.
        components: P.
    """

    shift: Tensor
    matrix: Tensor

    def __init__(self, channels: int, components: int) -> None:
        super().__init__()
        self.register_buffer("shift", torch.zeros(channels))
        self.register_buffer("matrix", torch.eye(channels, components))

    def forward(self, features: Tensor) -> Tensor:
        """Project features."""
        kernel = self.matrix.t()[..., None, None]
        bias = -(self.shift @ self.matrix)
        return functional.conv2d(features, kernel, bias).clamp_(-CLIP, CLIP)

    @torch.no_grad()
    def fit(self, cells: Tensor, *, whiten: bool) -> None:
        """Fit the projection to a sample of cells.

        Args:
            cells: (n, D).
            whiten: Components of the raw channels, each of variance 1. Otherwise the channels are standardised; if
                there are more than P, they are rotated to their first P principal components, which keeps the angles
                between cells as far as P components can.
        """
        cells = cells.double()
        self.shift.copy_(cells.mean(dim=0))
        centred = cells - cells.mean(dim=0)
        scale = torch.ones_like(centred[0]) if whiten else centred.std(dim=0).clamp_min(1e-6)
        centred = centred / scale
        channels, components = self.matrix.shape
        if components == channels and not whiten:
            self.matrix.copy_(torch.diag(1 / scale))
            return
        variances, axes = torch.linalg.eigh(centred.t() @ centred / max(1, len(centred) - 1))
        variances, axes = variances.flip(0)[:components], axes.flip(1)[:, :components]
        # without whitening, all components are scaled alike, to a mean variance of 1
        deviation = (variances if whiten else variances.mean()).clamp_min(1e-12).sqrt()
        self.matrix.copy_(axes / deviation / scale[:, None])


class CellClassifier(nn.Module):
    """Classifies each cell of a feature map as one of C classes or background.

    Args:
        channels: Channels of the stages that are read, in the order of `spec.stages`.
        classes: C.
        spec: Its shape.
    """

    def __init__(self, channels: Sequence[int], classes: int, spec: CellSpec) -> None:
        super().__init__()
        self.spec = spec
        self.classes = classes
        self.projections = nn.ModuleList(Projection(*shape) for shape in zip(channels, spec.components, strict=True))
        self.layers = nn.Sequential(
            nn.Linear(sum(spec.components), spec.hidden),
            nn.ReLU(),
            nn.Dropout(DROPOUT),
            nn.Linear(spec.hidden, classes + 1),
        )

    def project(self, stages: Sequence[Tensor]) -> list[Tensor]:
        """Project the features of each stage onto the grid of the last one.

        Args:
            stages: (B, D, h', w') features in the order of `spec.stages`.

        Returns:
            (B, P, h, w) float32 each.
        """
        return [projection(stage) for projection, stage in zip(self.projections, on_one_grid(stages), strict=True)]

    def forward(self, cells: Tensor) -> Tensor:
        """Classify (n, sum of components) cells: (n, C + 1) logits, those of the background last."""
        return cast(Tensor, self.layers(cells))

    def probabilities(self, projected: Sequence[Tensor], classes: Tensor) -> Tensor:
        """Compute the probability of each of an image's classes against its other classes and the background.

        Args:
            projected: Features as `project` returns them.
            classes: (B, K) int64, NO_CLASS as padding.

        Returns:
            (B, K, h, w) float32 in 0-1; 0 for NO_CLASS.
        """
        cells = torch.cat(list(projected), dim=1).permute(0, 2, 3, 1)
        logits = self(cells)
        background = logits.shape[-1] - 1
        index = torch.cat([classes, classes.new_full((len(classes), 1), background)], dim=1)
        wanted = logits.gather(3, index.clamp(min=0)[:, None, None].expand(*logits.shape[:3], -1))
        wanted = wanted.masked_fill((index == NO_CLASS)[:, None, None], -torch.inf)
        return wanted.softmax(dim=3)[..., :-1].permute(0, 3, 1, 2)


def build_cell_classifier(backbone: Backbone, classes: int, spec: CellSpec) -> CellClassifier:
    """Build an untrained cell classifier for a backbone."""
    return CellClassifier([backbone.channels[stage] for stage in spec.stages], classes, spec)


def grid_of(stages: Sequence[Tensor]) -> tuple[int, int]:
    """Return the (h, w) of the first of several (B, D, h, w) features."""
    return stages[0].shape[-2], stages[0].shape[-1]


def on_one_grid(stages: Sequence[Tensor]) -> list[Tensor]:
    """Average the features of finer stages to the grid of the first one: (B, D, h, w) float32 each."""
    size = grid_of(stages)
    return [
        stage.float() if grid_of([stage]) == size else functional.adaptive_avg_pool2d(stage.float(), size)
        for stage in stages
    ]


def affinity_features(projected: Sequence[Tensor]) -> Tensor:
    """Return the features by which cells are compared: those of the middle stages, or of the last if there are none."""
    middle = projected[1:] or projected
    return torch.cat(list(middle), dim=1)
