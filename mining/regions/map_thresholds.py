"""Thresholds chosen per map: Otsu, maximum entropy, stability of the box."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mining.arrays import Bools, Floats, Ints, jit
from mining.boxes.iou import paired_iou

SAME_BOX_IOU = 0.95
_NO_BOX = -1
_GREYS = 256
_TOLERANCE = 1e-12


def stable_positions(xyxy: NDArray[np.float32]) -> Ints:
    """Find the middle of the longest range of thresholds over which the box of a map stays the same.

    Args:
        xyxy: (p, T, 4) boxes of p maps at T thresholds; zeros where there is no box.

    Returns:
        (p,) int64 index of a threshold, of equally long ranges in the lowest; -1 for a map without boxes.
    """
    is_box: Bools = (xyxy[..., 2] > xyxy[..., 0]) & (xyxy[..., 3] > xyxy[..., 1])
    same = paired_iou(xyxy[:, :-1], xyxy[:, 1:]) >= SAME_BOX_IOU
    length = np.zeros(len(xyxy), np.int64)
    longest = np.zeros(len(xyxy), np.int64)
    middle = np.where(is_box.any(axis=1), is_box.argmax(axis=1), _NO_BOX)
    for step in range(same.shape[1]):
        length = np.where(same[:, step], length + 1, 0)
        better = length > longest
        longest = np.where(better, length, longest)
        middle = np.where(better, step + 1 - length // 2, middle)
    return middle


def nearest_positions(chosen: Floats, thresholds: Floats) -> Ints:
    """Find the nearest available threshold.

    Args:
        chosen: (p,) thresholds; 0 means that none was chosen.
        thresholds: (T,) available thresholds.

    Returns:
        (p,) int64 index into `thresholds`; -1 where `chosen` is 0.
    """
    nearest = np.abs(chosen[:, None] - thresholds).argmin(axis=1)
    return np.where(chosen > 0, nearest, _NO_BOX)


@jit
def grey_level_shares(level: Any) -> Any:
    """Compute the histogram of a normalised map over 256 grey levels.

    Args:
        level: (H, W) float32 in 0-1; grey levels are truncated, not rounded.

    Returns:
        (256,) float64, the share of the pixels at each grey level.
    """
    counts = np.zeros(_GREYS, np.int64)
    for value in level.ravel():
        counts[np.uint8(value * np.float32(_GREYS - 1))] += 1
    return counts / level.size


@jit
def otsu_threshold(share: Any) -> Any:
    """Compute Otsu's threshold, which maximises the variance between background and object.

    Args:
        share: (256,) share of the pixels at each grey level.

    Returns:
        Threshold in 0-1 that the pixels of the object reach, the lowest of equally good ones; 0 if all pixels have the
        same grey level.

    Reference:
        Otsu: A threshold selection method from gray-level histograms (1979).
    """
    mean = (share * np.arange(_GREYS)).sum()
    best, found = 0.0, 0
    below = moment = 0.0
    for grey in range(_GREYS - 1):
        below, moment = below + share[grey], moment + grey * share[grey]
        if 0 < below < 1 - _TOLERANCE:
            variance = (moment - below * mean) ** 2 / (below * (1 - below))
            if variance > best * (1 + _TOLERANCE):
                best, found = variance, grey + 1
    return found / (_GREYS - 1)


@jit
def entropy_threshold(share: Any) -> Any:
    """Compute the maximum-entropy threshold: the sum of the entropies of background and object is highest.

    Args:
        share: (256,) share of the pixels at each grey level.

    Returns:
        Threshold in 0-1 that the pixels of the object reach, the lowest of equally good ones; 0 if all pixels have the
        same grey level.

    Reference:
        Kapur, Sahoo, Wong: A new method for gray-level picture thresholding using the entropy of the histogram (1985).
    """
    information = np.zeros(_GREYS)
    for grey in range(_GREYS):
        if share[grey] > 0:
            information[grey] = -share[grey] * np.log(share[grey])
    whole = information.sum()
    best, found = -np.inf, 0
    below = partial = 0.0
    for grey in range(_GREYS - 1):
        below, partial = below + share[grey], partial + information[grey]
        if 0 < below < 1 - _TOLERANCE:
            entropy = np.log(below) + partial / below + np.log(1 - below) + (whole - partial) / (1 - below)
            if entropy > best + _TOLERANCE:
                best, found = entropy, grey + 1
    return found / (_GREYS - 1)
