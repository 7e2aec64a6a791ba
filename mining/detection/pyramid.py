"""The feature pyramid of a backbone: maps of equal channels, each half as fine as the one before."""

from itertools import pairwise

from torch import Tensor, nn
from torchvision.ops import FeaturePyramidNetwork
from torchvision.ops.feature_pyramid_network import LastLevelP6P7

from mining.backbones.base import Backbone

FINEST_STRIDE = 8
_EXTRA_LEVELS = 2


class FeaturePyramid(nn.Module):
    """A backbone and the pyramid of its features.

    The pyramid stands on the last stage of each stride from 8 px on. The backbones have an output stride of 16, so two
    further levels are made by convolutions of stride 2: the strides are 8, 16, 32 and 64. A backbone that has no such
    stage, or only coarser ones, has the levels that follow from its last stage.

    Args:
        backbone: The backbone; its stages behind the pyramid's last one are removed.
        channels: Channels of each level.
        frozen_stages: Number of first stages that are not trained.

    Attributes:
        strides: Stride of each level in input px per cell.
    """

    def __init__(self, backbone: Backbone, channels: int, frozen_stages: int) -> None:
        super().__init__()
        self.backbone = backbone
        fine_enough = [stride for stride in backbone.strides if stride >= FINEST_STRIDE] or [max(backbone.strides)]
        last_of = {stride: stage for stage, stride in enumerate(backbone.strides) if stride in fine_enough}
        self.stages = sorted(last_of.values())
        backbone.keep(self.stages[-1] + 1)
        own = [backbone.strides[stage] for stage in self.stages]
        self.strides = (*own, *(own[-1] * 2**level for level in range(1, _EXTRA_LEVELS + 1)))
        if any(coarse <= fine for fine, coarse in pairwise(own)):
            raise ValueError(f"The stages' strides must not fall, got {backbone.strides}.")
        self.levels = FeaturePyramidNetwork(
            [backbone.channels[stage] for stage in self.stages], channels, LastLevelP6P7(channels, channels)
        )
        for stage in backbone.stages[:frozen_stages]:
            stage.requires_grad_(False)
        backbone.eval()  # Lightning does not call `train`: it keeps the modes that it finds

    @property
    def whole_cells_px(self) -> int:
        """Side in px that inputs are padded to a multiple of, so that the backbone's cells divide them."""
        return int(self.backbone.strides[self.stages[-1]])

    def train(self, mode: bool = True) -> "FeaturePyramid":
        """Set the mode; the backbone stays in evaluation mode, because batches are too small for its batch norm."""
        super().train(mode)
        self.backbone.eval()
        return self

    def forward(self, images: Tensor) -> list[Tensor]:
        """Compute the pyramid.

        Args:
            images: (B, 3, H, W) normalised, sides multiples of `whole_cells_px`.

        Returns:
            Fine to coarse, (B, channels, about H / strides[i], about W / strides[i]) each.
        """
        features, kept = images, {}
        for number, stage in enumerate(self.backbone.stages):
            features = stage(features)
            if number in self.stages:
                kept[str(number)] = self.backbone.cells_of(features)
        return list(self.levels(kept).values())
