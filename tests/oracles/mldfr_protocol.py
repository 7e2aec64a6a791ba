"""From class maps to boxes and figures as mLDFR's released code has it, where it differs from the paper and from us.

1. The fused map is set to 0 where it is below its mean. Where the mean is negative, what is cut ends above what is kept.
2. The map is brought to 0-1 (eq. 9), values below the threshold become 0, and the mask is what reaches the mean of
   the result: a second threshold.
3. Regions are 4-connected; unless several are asked for, one box holds the whole mask. Boxes end with their last pixel.
4. The score of a box is the mean of the map before it was brought to 0-1.
"""

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from mining.overlap import iou_matrix
from mining.pyramid import fused

Array = np.ndarray


def fused_and_cut_at_its_mean(levels: list[Tensor], size: tuple[int, int]) -> Tensor:
    """Each level (1, h, w), raw; gives (H, W)."""
    total = fused(levels, size)[0]
    return torch.where(total < total.mean(), 0, total)


def mask_of(activation: Tensor, threshold: float) -> Array:
    """(H, W) float32 to bool; empty for a constant map, of which the released code raises."""
    lowest, highest = activation.min(), activation.max()
    if lowest == highest:
        return np.zeros(activation.shape, bool)
    level = (activation - lowest) / (highest - lowest)
    kept = torch.where(level < threshold, 0, level).numpy()
    return kept >= kept.mean()


def inclusive_boxes(activation: Tensor, threshold: float, *, several: bool) -> Array:
    """(n, 5): x and y of the first and the last pixel, score."""
    mask = mask_of(activation, threshold)
    regions, count = ndimage.label(mask) if several else (mask.astype(int), int(mask.any()))
    rows = []
    for region in range(1, count + 1):
        inside = regions == region
        ys, xs = np.nonzero(inside)
        score = activation.numpy()[inside].mean() if several else activation.numpy().mean()
        rows.append((xs.min(), ys.min(), xs.max(), ys.max(), score))
    return np.array(rows, np.float64).reshape(-1, 5)


def half_open(boxes: Array) -> Array:
    """(n, 4) boxes that end with their last pixel, to boxes that end behind it; so the peer's + 1 is ours."""
    return np.add(boxes, (0.0, 0.0, 1.0, 1.0))


def iou_with_one_added(first: Array, second: Array) -> Array:
    """(n, m) of boxes that end with their last pixel."""
    return iou_matrix(half_open(first), half_open(second))


def top_classes(scores: Array) -> Array:
    """(B, C) classifier's scores to the five best classes of each image."""
    return np.argsort(scores, axis=1)[:, ::-1][:, :5]


def errors(scores: Array, labels: Array, boxes: Array, truth: Array, threshold: float) -> list[float]:
    """Top-1 and top-5 classification errors, and those of classification with localization; one true box an image.

    boxes: (B, 5, 4), of each of the five best classes. truth: (B, 4).
    """
    wrong = top_classes(scores) != labels[:, None]
    missed = np.array(
        [iou_with_one_added(five, one)[:, 0] < threshold for five, one in zip(boxes, truth[:, None], strict=True)]
    )
    return [part.mean() for one in (wrong, wrong | missed) for part in (one[:, 0], one.all(axis=1))]
