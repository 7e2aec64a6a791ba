"""Multi-scale class activation mapping (MsCAM, mLDFR section III-C): one map a class from a pyramid of sizes."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch import Tensor

from mining.corpus.images.decoding import resize_image, scaled_input_size
from mining.localizers.base import ClassChoice, Localizer

Pictures = Mapping[float, Tensor]


@dataclass(frozen=True)
class PyramidMaps:
    """A batch seen at every scale.

    logits: (B, C) at the first scale. classes: (B, K) int64, NO_CLASS as padding.
    levels: by scale, (B, K, h, w) float32, raw; the one map of a class-agnostic localizer K times.
    """

    logits: Tensor
    classes: Tensor
    levels: dict[float, Tensor]


def nearest_to_one(scales: Iterable[float]) -> float:
    """The scale that is looked at first: the nearest to 1, of two the smaller."""
    return min(scales, key=lambda scale: (abs(scale - 1.0), scale))


def pictures_of(image: Tensor, size: tuple[int, int], scales: Iterable[float]) -> dict[float, Tensor]:
    """A (3, H, W) uint8 image at each scale, by scale, each made from the image itself. size: (h, w) at scale 1.

    From the image, not from one another: softened twice, photos of a size like the largest scale's gave boxes of which
    less than half had an IoU of 0.98 with those of the photo softened once.
    """
    return {scale: resize_image(image, scaled_input_size(size, scale)) for scale in scales}


def localize_pyramid(localizer: Localizer, images: Pictures, *, classes: ClassChoice) -> PyramidMaps:
    """Localize the batch at each scale.

    images: by scale, (B, 3, h, w) uint8. The scale nearest to 1 goes first: it gives the logits, and its choice of
    classes holds for the others.
    """
    first = nearest_to_one(images)
    seen = localizer.localize(images[first], classes)
    others = {scale: images[scale] for scale in images if scale != first} if seen.classes.shape[1] else {}
    levels = levels_at(localizer, others, seen.classes, at_once=images[first][:, 0].numel())
    levels[first] = _one_a_class(localizer, seen.maps, seen.classes)
    return PyramidMaps(seen.logits, seen.classes, {scale: levels[scale] for scale in images if scale in levels})


def levels_at(localizer: Localizer, images: Pictures, classes: Tensor, *, at_once: int) -> dict[float, Tensor]:
    """The maps (B, K, h, w) of classes (B, K) by scale.

    images: by scale, (B, 3, h, w) uint8. at_once: pixels that may go through the network together; at least one image.
    """
    levels = {}
    for scale, some in images.items():
        length = max(1, at_once // some[0, 0].numel())
        levels[scale] = _one_a_class(localizer, _maps_in_pieces(localizer, some, classes, length), classes)
    return levels


def _one_a_class(localizer: Localizer, maps: Tensor, classes: Tensor) -> Tensor:
    return maps[:, :1].expand(-1, classes.shape[1], -1, -1) if localizer.class_agnostic else maps


def _maps_in_pieces(localizer: Localizer, images: Tensor, classes: Tensor, length: int) -> Tensor:
    pieces = zip(torch.split(images, length), torch.split(classes, length), strict=True)
    return torch.cat([localizer.maps(some, wanted) for some, wanted in pieces])


def fuse_scales(levels: Sequence[Tensor], size: tuple[int, int]) -> Tensor:
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
