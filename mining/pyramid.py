"""Multi-scale class activation mapping (MsCAM, mLDFR section III-C): one map a class from a pyramid of sizes."""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch import Tensor

from mining.images import resized, scaled
from mining.localizers.base import ClassChoice, Localizer


@dataclass(frozen=True)
class PyramidMaps:
    """A batch seen at every scale.

    logits: (B, C) at the first scale. classes: (B, K) int64, NO_CLASS as padding.
    levels: one (B, K, h, w) float32 tensor a scale, raw; the one map of a class-agnostic localizer K times.
    """

    logits: Tensor
    classes: Tensor
    levels: list[Tensor]


def largest_size(size: tuple[int, int], scales: Sequence[float]) -> tuple[int, int]:
    """The working size (h, w) an image must be decoded to for all scales."""
    return scaled(size, max(scales))


def first_of(scales: Sequence[float]) -> float:
    """The scale that is looked at first: the nearest to 1, of two the smaller."""
    return min(scales, key=lambda scale: (abs(scale - 1.0), scale))


def localize_pyramid(
    localizer: Localizer, images: Tensor, *, size: tuple[int, int], scales: Sequence[float], classes: ClassChoice
) -> PyramidMaps:
    """Localize the batch at each scale.

    images: (B, 3, H, W) uint8 at the largest scale. size: (h, w) at scale 1.
    scales: the scale nearest to 1 goes first: it gives the logits, and its choice of classes holds for the others.
    """
    first = first_of(scales)
    seen = localizer.localize(resized(images, scaled(size, first)), classes)
    others = [scale for scale in scales if scale != first] if seen.classes.shape[1] else []
    levels = dict(zip(others, levels_at(others, localizer, images, size=size, classes=seen.classes), strict=True))
    levels[first] = _one_a_class(localizer, seen.maps, seen.classes)
    return PyramidMaps(seen.logits, seen.classes, [levels[scale] for scale in scales if scale in levels])


def levels_at(
    scales: Sequence[float], localizer: Localizer, images: Tensor, *, size: tuple[int, int], classes: Tensor
) -> list[Tensor]:
    """The maps (B, K, h, w) of classes (B, K) at each of the scales; images and size as in `localize_pyramid`.

    Images go through the network in pieces of as many pixels as the batch has at scale 1.
    """
    budget = len(images) * size[0] * size[1]
    levels = []
    for height, width in (scaled(size, scale) for scale in scales):
        at_once = max(1, budget // (height * width))
        maps = _maps_in_pieces(localizer, resized(images, (height, width)), classes, at_once)
        levels.append(_one_a_class(localizer, maps, classes))
    return levels


def _one_a_class(localizer: Localizer, maps: Tensor, classes: Tensor) -> Tensor:
    return maps[:, :1].expand(-1, classes.shape[1], -1, -1) if localizer.class_agnostic else maps


def _maps_in_pieces(localizer: Localizer, images: Tensor, classes: Tensor, length: int) -> Tensor:
    pieces = zip(torch.split(images, length), torch.split(classes, length), strict=True)
    return torch.cat([localizer.maps(some, wanted) for some, wanted in pieces])


def fused(levels: Sequence[Tensor], size: tuple[int, int]) -> Tensor:
    """Sum of the scales' maps, each brought to `size`: A_final = sum_s resize(A_s) (mLDFR, before eq. 9).

    levels: (K, h, w) float32 on the CPU each. size: (H, W) px. Gives (K, H, W) float32. Bilinear, cell centres aligned.
    """
    height, width = size
    total = np.empty((len(levels[0]), height, width), np.float32)
    for number, maps in enumerate(zip(*(level.numpy() for level in levels), strict=True)):
        # OpenCV's, which takes a fifth of the time of torch's for a map at a time
        first, *others = (cv2.resize(one, (width, height), interpolation=cv2.INTER_LINEAR) for one in maps)
        total[number] = first
        for other in others:
            total[number] += other
    return torch.from_numpy(total)
