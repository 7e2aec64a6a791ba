"""Thresholds that a map suggests by itself: Otsu, maximum entropy, stability."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mining.arrays import Bools, Floats, Ints, jit
from mining.boxes.iou import paired_iou

SAME_BOX = 0.95
_NO_BOX = -1


def stable_positions(xyxy: NDArray[np.float32]) -> Ints:
    """(p,) the middle of the longest range of thresholds over which the box stays the same; -1 where there is no box.

    xyxy: (p, T, 4), zeros where there is no box. Of equally long ranges the lowest.
    """
    is_box: Bools = (xyxy[..., 2] > xyxy[..., 0]) & (xyxy[..., 3] > xyxy[..., 1])
    same = paired_iou(xyxy[:, :-1], xyxy[:, 1:]) >= SAME_BOX
    length = np.zeros(len(xyxy), np.int64)
    longest = np.zeros(len(xyxy), np.int64)
    middle = np.where(is_box.any(axis=1), is_box.argmax(axis=1), _NO_BOX)
    for step in range(same.shape[1]):
        length = np.where(same[:, step], length + 1, 0)
        better = length > longest
        longest = np.where(better, length, longest)
        middle = np.where(better, step + 1 - length // 2, middle)
    return middle


def nearest_positions(told: Floats, thresholds: Floats) -> Ints:
    """(p,) the position of the threshold (T,) that is nearest to each one told; -1 for 0, which tells nothing."""
    nearest = np.abs(told[:, None] - thresholds).argmin(axis=1)
    return np.where(told > 0, nearest, _NO_BOX)


_GREYS = 256


_NEARLY = 1e-12


@jit
def grey_level_shares(level: Any) -> Any:
    """(256,) float64, the share of a normalised map (H, W) at each grey level, cut off rather than rounded."""
    counts = np.zeros(_GREYS, np.int64)
    for value in level.ravel():
        counts[np.uint8(value * np.float32(_GREYS - 1))] += 1
    return counts / level.size


@jit
def otsu_threshold(share: Any) -> Any:
    """The threshold after Otsu of the shares (256,) of grey levels, in 0-1; the object's pixels reach it.

    Of equal ones the lowest; 0 where there is one grey level.
    """
    mean = (share * np.arange(_GREYS)).sum()
    best, found = 0.0, 0
    under = told = 0.0
    for grey in range(_GREYS - 1):
        under, told = under + share[grey], told + grey * share[grey]
        if 0 < under < 1 - _NEARLY:
            variance = (told - under * mean) ** 2 / (under * (1 - under))
            if variance > best * (1 + _NEARLY):
                best, found = variance, grey + 1
    return found / (_GREYS - 1)


@jit
def entropy_threshold(share: Any) -> Any:
    """The threshold after Kapur, Sahoo and Wong of the shares (256,) of grey levels, in 0-1.

    The object's pixels reach it. Of equal ones the lowest; 0 where there is one grey level.
    """
    information = np.zeros(_GREYS)
    for grey in range(_GREYS):
        if share[grey] > 0:
            information[grey] = -share[grey] * np.log(share[grey])
    whole = information.sum()
    best, found = -np.inf, 0
    under = told = 0.0
    for grey in range(_GREYS - 1):
        under, told = under + share[grey], told + information[grey]
        if 0 < under < 1 - _NEARLY:
            entropy = np.log(under) + told / under + np.log(1 - under) + (whole - told) / (1 - under)
            if entropy > best + _NEARLY:
                best, found = entropy, grey + 1
    return found / (_GREYS - 1)
