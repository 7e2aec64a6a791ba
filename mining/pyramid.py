"""Multi-scale class activation mapping (MsCAM, mLDFR section III-C): one map a class from a pyramid of sizes."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from mining.images import resized, scaled
from mining.localizers.base import ClassChoice, Localizer


@dataclass(frozen=True)
class PyramidMaps:
    """A batch seen at every scale.

    logits: (B, C) at the first scale. classes: (B, K) int64, NO_CLASS as padding.
    levels: one (B, K, h, w) float32 tensor a scale, raw.
    """

    logits: Tensor
    classes: Tensor
    levels: list[Tensor]


def largest_size(size: tuple[int, int], scales: Sequence[float]) -> tuple[int, int]:
    """The working size (h, w) an image must be decoded to for all scales."""
    return scaled(size, max(scales))


def localize_pyramid(
    localizer: Localizer, images: Tensor, *, size: tuple[int, int], scales: Sequence[float], classes: ClassChoice
) -> PyramidMaps:
    """Localize the batch at each scale.

    images: (B, 3, H, W) uint8 at the largest scale. size: (h, w) at scale 1.
    scales: the scale nearest to 1 goes first: it gives the logits, and its choice of classes holds for the others.
    """
    first, *others = sorted(scales, key=lambda scale: (abs(scale - 1.0), scale))
    seen = localizer.localize(resized(images, scaled(size, first)), classes)
    levels = {first: seen.maps}
    if seen.classes.shape[1]:
        for scale in others:
            levels[scale] = localizer.localize(resized(images, scaled(size, scale)), seen.classes).maps
    return PyramidMaps(seen.logits, seen.classes, [levels[scale] for scale in scales if scale in levels])


def fused(levels: Sequence[Tensor], size: tuple[int, int]) -> Tensor:
    """Sum of the scales' maps, each brought to `size`: A_final = sum_s resize(A_s) (mLDFR, before eq. 9).

    levels: (K, h, w) float32 each. size: (H, W) px. Gives (K, H, W) float32. Bilinear, cell centres aligned.
    """
    total = torch.zeros((len(levels[0]), *size), dtype=torch.float32, device=levels[0].device)
    for level in levels:
        total += functional.interpolate(level[None], size, mode="bilinear", align_corners=False)[0]
    return total
