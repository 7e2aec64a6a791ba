"""Classify an image by ten crops: its class probabilities are the mean of theirs.

Reference:
    Krizhevsky, Sutskever, Hinton, "ImageNet Classification with Deep Convolutional Neural Networks", NeurIPS 2012,
    section 4.1: four corners and the centre of the image, and their mirror images.
"""

import torch
from torch import Tensor

from mining.config import Objective
from mining.localizers.base import probabilities

CROP_SOURCE_SCALE = 8 / 7  # crops of 224 px are cut from 256 px
_SMALLEST = 1e-30  # a probability whose logarithm is finite in float32
_NEAREST = 1e-7  # of a probability to 0 or 1, for a finite logit


def ten_crops(image: Tensor, side: int) -> Tensor:
    """Cut squares from the corners and the centre of an image, and mirror them.

    Args:
        image: (3, H, W), at least `side` high and wide.
        side: Of the squares, in px.

    Returns:
        (10, 3, side, side): upper left, upper right, lower left, lower right, centre; then the same mirrored.
    """
    bottom, right = image.shape[-2] - side, image.shape[-1] - side
    corners = [(0, 0), (0, right), (bottom, 0), (bottom, right), (round(bottom / 2), round(right / 2))]
    crops = torch.stack([image[:, y : y + side, x : x + side] for y, x in corners])
    return torch.cat([crops, crops.flip(-1)])


def logits_of_mean(logits: Tensor, objective: Objective) -> Tensor:
    """Return logits whose probabilities are the mean of the crops' probabilities.

    Args:
        logits: (B, N, C) of N crops of each image.
        objective: How logits become probabilities, see `mining.localizers.base.probabilities`.

    Returns:
        (B, C).
    """
    count, crops, classes = logits.shape
    of_crops = probabilities(logits.reshape(-1, classes), objective).view(count, crops, classes)
    mean = of_crops.double().mean(dim=1)  # the same in float32 in whatever order the crops are added
    return (mean.clamp_min(_SMALLEST).log() if objective == "single" else mean.logit(_NEAREST)).float()
