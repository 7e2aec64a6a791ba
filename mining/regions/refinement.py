"""Refine activation maps by a random walk over cells with similar features.

An activation map is highest on the most discriminative part of an object. Its values are spread to nearby cells whose
features resemble those of the activated ones, so that the map covers the object and ends at its boundary.

Reference:
    Ahn, Kwak: Learning Pixel-level Semantic Affinity with Image-level Supervision for Weakly Supervised Semantic
    Segmentation (CVPR 2018), where the affinities are learned. Here they are cosine similarities of the backbone's
    middle stages, raised to a power.
"""

import torch
from torch import Tensor
from torch.nn import functional

RADIUS = 5  # cells, in x and in y
POWER = 4


class AffinityWalk:
    """Transition probabilities between nearby cells of a batch of feature maps.

    From cell i the walk goes to cell j, at most `radius` rows and columns away, with a probability proportional to
    max(0, cos(x_i, x_j)) ** power. The time and the memory grow linearly with the number of rows.

    Args:
        features: (B, D, h, w) float32; channels of comparable variance, because the cosine weighs them by it.
        radius: Maximum distance of a step in cells, in x and in y.
        power: Exponent of the cosine similarity; higher values keep the walk within boundaries.
    """

    def __init__(self, features: Tensor, *, radius: int = RADIUS, power: int = POWER) -> None:
        batch, _, height, width = features.shape
        self._radius = radius
        rows = functional.normalize(features, dim=1).permute(0, 2, 3, 1).contiguous()
        columns = torch.arange(width, device=features.device)
        is_near = (columns[:, None] - columns).abs() <= radius
        # by rows: (w, w) similarities between row y and each of the rows y - radius ... y + radius
        similarity = features.new_zeros(batch, height, width, 2 * radius + 1, width)
        for step in range(min(radius, height - 1) + 1):
            block = (rows[:, : height - step] @ rows[:, step:].transpose(2, 3)).clamp_min_(0).pow_(power).mul_(is_near)
            similarity[:, : height - step, :, radius + step] = block
            if step:
                similarity[:, step:, :, radius - step] = block.transpose(2, 3)
        flat = similarity.flatten(3)
        total = flat.sum(dim=3, keepdim=True)
        # a cell without features resembles none, not even itself: its row stays 0, and so does its value
        self._transition = flat / total.clamp_min(torch.finfo(flat.dtype).tiny)

    def spread(self, values: Tensor, steps: int) -> Tensor:
        """Replace each cell's value by the mean over the cells that the walk reaches in `steps` steps.

        Args:
            values: (B, K, h, w) float32.
            steps: Number of steps.

        Returns:
            (B, K, h, w) float32, within the range of `values`.
        """
        batch, count, height, width = values.shape
        radius, window = self._radius, 2 * self._radius + 1
        padded = values.new_zeros(batch, height + 2 * radius, width, count)
        inner = padded[:, radius : radius + height]
        inner.copy_(values.permute(0, 2, 3, 1))
        for _ in range(steps):
            nearby = padded.unfold(1, window, 1).permute(0, 1, 4, 2, 3).reshape(batch, height, window * width, count)
            inner.copy_(self._transition @ nearby)
        return inner.permute(0, 3, 1, 2).contiguous()


def scale_to_peak(values: Tensor) -> Tensor:
    """Set negative values to 0 and divide each map by its maximum.

    Args:
        values: (B, K, h, w).

    Returns:
        (B, K, h, w) in 0-1; a map without positive values is 0.
    """
    positive = values.clamp_min(0)
    peak = positive.amax(dim=(2, 3), keepdim=True)
    return positive / peak.clamp_min(torch.finfo(positive.dtype).tiny)
