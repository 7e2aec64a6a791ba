"""Multi-scale class activation mapping (MsCAM, mLDFR section III-C): one map per class from several scales."""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch import Tensor

from mining.arrays import FloatMap
from mining.backbones.receptive_fields import CellGrid, resampling_weights
from mining.corpus.images.decoding import resize_image, scaled_input_size
from mining.localizers.base import ClassChoice, Localizer
from mining.localizers.stage_recorder import StageRecorder

Pictures = Mapping[float, Tensor]


@dataclass(frozen=True)
class PyramidMaps:
    """The output for a batch at every scale.

    Attributes:
        logits: (B, C) at the first scale.
        classes: (B, K) int64, padded with NO_CLASS.
        levels: Raw maps (B, K, h, w) float32 by scale; the single map of a class-agnostic localizer K times.
    """

    logits: Tensor
    classes: Tensor
    levels: dict[float, Tensor]


def nearest_to_one(scales: Iterable[float]) -> float:
    """Return the scale that is run first: the nearest to 1, and the smaller of two."""
    return min(scales, key=lambda scale: (abs(scale - 1.0), scale))


def pictures_of(image: Tensor, size: tuple[int, int], scales: Iterable[float]) -> dict[float, Tensor]:
    """Resize an image to each scale.

    Each is resized from the image itself, not from another scale: after resizing twice, images about as large as the
    largest scale gave boxes of which less than half had an IoU of 0.98 with those after resizing once.

    Args:
        image: (3, H, W) uint8.
        size: (h, w) at scale 1.
        scales: The scales.

    Returns:
        (3, h, w) uint8 images by scale.
    """
    return {scale: resize_image(image, scaled_input_size(size, scale)) for scale in scales}


def localize_pyramid(
    localizer: Localizer,
    images: Pictures,
    *,
    classes: ClassChoice,
    recorder: StageRecorder | None = None,
    record_scale: float | None = None,
) -> PyramidMaps:
    """Localize a batch at each scale.

    Args:
        localizer: The localizer.
        images: (B, 3, h, w) uint8 by scale. The scale nearest to 1 runs first: it gives the logits and the classes.
        classes: Chooses the classes to map.
        recorder: Records the features of one scale.
        record_scale: That scale.

    Reference:
        mLDFR, section III-C.
    """
    first = nearest_to_one(images)
    with _recording(recorder, first == record_scale):
        seen = localizer.localize(images[first], classes)
    others = {scale: images[scale] for scale in images if scale != first} if seen.classes.shape[1] else {}
    at_once = images[first][:, 0].numel()
    levels = levels_at(localizer, others, seen.classes, at_once=at_once, recorder=recorder, record_scale=record_scale)
    levels[first] = _one_a_class(localizer, seen.maps, seen.classes)
    return PyramidMaps(seen.logits, seen.classes, {scale: levels[scale] for scale in images if scale in levels})


def levels_at(
    localizer: Localizer,
    images: Pictures,
    classes: Tensor,
    *,
    at_once: int,
    recorder: StageRecorder | None = None,
    record_scale: float | None = None,
) -> dict[float, Tensor]:
    """Compute the maps of further scales.

    Args:
        localizer: The localizer.
        images: (B, 3, h, w) uint8 by scale.
        classes: (B, K) int64, NO_CLASS as padding.
        at_once: Pixels that may go through the network together; at least one image.
        recorder: Records the features of one scale.
        record_scale: That scale.

    Returns:
        Raw maps (B, K, h, w) by scale.
    """
    levels = {}
    for scale, some in images.items():
        length = max(1, at_once // some[0, 0].numel())
        with _recording(recorder, scale == record_scale):
            maps = _maps_in_pieces(localizer, some, classes, length)
        levels[scale] = _one_a_class(localizer, maps, classes)
    return levels


def _recording(recorder: StageRecorder | None, is_recorded: bool) -> AbstractContextManager[None]:
    return recorder.recording() if recorder is not None and is_recorded else nullcontext()


def _one_a_class(localizer: Localizer, maps: Tensor, classes: Tensor) -> Tensor:
    return maps[:, :1].expand(-1, classes.shape[1], -1, -1) if localizer.class_agnostic else maps


def _maps_in_pieces(localizer: Localizer, images: Tensor, classes: Tensor, length: int) -> Tensor:
    pieces = zip(torch.split(images, length), torch.split(classes, length), strict=True)
    return torch.cat([localizer.maps(some, wanted) for some, wanted in pieces])


def fuse_scales(
    levels: Sequence[Tensor], size: tuple[int, int], grids: Sequence[CellGrid | None] | None = None
) -> Tensor:
    """Sum the maps of all scales after bilinear resizing: A_final = sum_s resize(A_s).

    Args:
        levels: (K, h, w) float32 CPU maps, one tensor per scale.
        size: (H, W) in px.
        grids: Where the cells of each scale look, in px of the result; None where they tile it evenly.

    Returns:
        (K, H, W) float32.

    Reference:
        mLDFR, before eq. 9.
    """
    total = np.zeros((len(levels[0]), *size), np.float32)
    for level, grid in zip(levels, grids or [None] * len(levels), strict=True):
        for number, activation in enumerate(level.numpy()):
            total[number] += _resized(activation, size, grid)
    return torch.from_numpy(total)


def _resized(activation: FloatMap, size: tuple[int, int], grid: CellGrid | None) -> FloatMap:
    rows, columns = activation.shape
    if grid is None or grid.is_close_to(CellGrid.tiling(size, (rows, columns))):
        # OpenCV takes a fifth of torch's time for single maps
        resized = cv2.resize(activation, size[::-1], interpolation=cv2.INTER_LINEAR)
        return np.asarray(resized, np.float32)
    pixels = CellGrid.tiling(size, size)
    of_rows, of_columns = resampling_weights(grid, (rows, columns), pixels, size)
    return np.asarray(of_rows @ activation @ of_columns.T, np.float32)
