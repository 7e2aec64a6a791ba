"""Where the cells of a feature pyramid look, and the anchors around these points."""

from collections.abc import Sequence

import torch
from torch import Tensor


def cell_centres(size: tuple[int, int], stride: int, device: torch.device) -> Tensor:
    """Return the (h w, 2) x, y in input px that the cells of an (h, w) map look at, row by row."""
    ys, xs = (torch.arange(side, device=device, dtype=torch.float32) * stride for side in size)
    grid = torch.meshgrid(ys, xs, indexing="ij")
    return torch.stack([grid[1].flatten(), grid[0].flatten()], dim=1)


def place_anchors(
    sizes: Sequence[tuple[int, int]],
    strides: Sequence[int],
    device: torch.device,
    *,
    cells: int,
    scales: Sequence[float],
    ratios: Sequence[float],
) -> list[Tensor]:
    """Return the (A_i, 4) xyxy anchors of each level in input px, those of a cell one after the other.

    Args:
        sizes: Height and width of each level's map.
        strides: Stride of each level in px.
        device: Where to put them.
        cells: Side in cells of a square anchor of scale 1.
        scales: Factors of the side.
        ratios: Height by width; the area does not depend on it. All scales of the first ratio come first.
    """
    placed = []
    for size, stride in zip(sizes, strides, strict=True):
        sides = [
            (cells * stride * scale / ratio**0.5, cells * stride * scale * ratio**0.5)
            for ratio in ratios
            for scale in scales
        ]
        half = torch.tensor(sides, device=device) / 2
        centres = cell_centres(size, stride, device)[:, None]
        placed.append(torch.cat([centres - half, centres + half], dim=2).reshape(-1, 4))
    return placed
