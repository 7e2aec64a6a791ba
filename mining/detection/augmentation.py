"""How the training images of a detector are varied: crops around objects, flips, colours."""

import os
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from mining.arrays import Floats, Ints
from mining.config import DetectorOptions
from mining.corpus.images.decoding import resize_image
from mining.detection.boxes import DetectionTarget
from mining.detection.network import fit_side

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
import albumentations as A

_CROP_PROBABILITY, _CROP_TRIES = 0.6, 10
_CROP_SIDES, _CROP_RATIOS = (0.5, 1.0), (0.75, 1.33)
_IGNORED = -1  # number of a region that is no box


@dataclass(frozen=True)
class View:
    """A view of an image: (3, h, w) uint8 pixels and what they show."""

    pixels: torch.Tensor
    target: DetectionTarget


class BoxAugmentation:
    """Crop, resize to the side of the network, flip and change colours; a view follows from its seed alone."""

    def __init__(self, options: DetectorOptions) -> None:
        self.options = options
        flip = [A.HorizontalFlip(p=0.5)] if options.flip else []
        colour = [A.ColorJitter(0.3, 0.3, 0.3, 0.05, p=0.5)] if options.colour else []
        self._change = A.Compose(
            [*flip, *colour],
            bbox_params=A.BboxParams("pascal_voc", label_fields=["numbers"], clip=True, filter_invalid_bboxes=True),
        )

    def __call__(
        self, pixels: torch.Tensor, boxes: Floats, classes: Ints, weights: Floats, ignored: Floats, seed: int
    ) -> View:
        """Return a view.

        Args:
            pixels: (3, h, w) uint8.
            boxes: (n, 4) xyxy px.
            classes: (n,).
            weights: (n,).
            ignored: (m, 4) xyxy px.
            seed: Seed of the view.
        """
        regions = np.concatenate([boxes, ignored]).astype(np.float64)
        numbers = np.concatenate([np.arange(len(boxes)), np.full(len(ignored), _IGNORED)])
        if self.options.crop and len(boxes):
            pixels, regions, numbers = _crop(pixels, regions, numbers, np.random.default_rng(seed))
        height, width = (int(side) for side in pixels.shape[1:])
        size = fit_side(height, width, self.options.side)
        regions = regions * np.array([size[1] / width, size[0] / height] * 2)
        self._change.set_random_seed(seed)
        changed: dict[str, Any] = self._change(
            image=resize_image(pixels, size).permute(1, 2, 0).contiguous().numpy(), bboxes=regions, numbers=numbers
        )
        found = np.asarray(changed["bboxes"], np.float32).reshape(-1, 4)
        numbers = np.asarray(changed["numbers"], np.int64).reshape(-1)
        own = numbers[numbers != _IGNORED]
        return View(
            torch.from_numpy(np.ascontiguousarray(changed["image"])).permute(2, 0, 1).contiguous(),
            DetectionTarget(
                torch.from_numpy(found[numbers != _IGNORED]),
                torch.from_numpy(np.asarray(classes, np.int64)[own]),
                torch.from_numpy(np.asarray(weights, np.float32)[own]),
                torch.from_numpy(found[numbers == _IGNORED]),
            ),
        )


def _crop(
    pixels: torch.Tensor, regions: Floats, numbers: Ints, random: np.random.Generator
) -> tuple[torch.Tensor, Floats, Ints]:
    """Cut out a part that holds the centre of a box; what is visible of boxes with another centre becomes ignored."""
    if random.random() >= _CROP_PROBABILITY:
        return pixels, regions, numbers
    height, width = (int(side) for side in pixels.shape[1:])
    centres = (regions[:, :2] + regions[:, 2:]) / 2
    is_box = numbers != _IGNORED
    for _ in range(_CROP_TRIES):
        side, ratio = random.uniform(*_CROP_SIDES), random.uniform(*_CROP_RATIOS)
        w = max(1, min(width, int(width * side * ratio**0.5)))
        h = max(1, min(height, int(height * side / ratio**0.5)))
        x, y = int(random.integers(width - w + 1)), int(random.integers(height - h + 1))
        is_central = ((centres > (x, y)) & (centres < (x + w, y + h))).all(axis=1)
        if (is_central & is_box).any():
            cut = (regions - (x, y, x, y)).clip(0, (w, h, w, h))
            is_visible = (cut[:, 2:] > cut[:, :2]).all(axis=1)
            numbers = np.where(is_central, numbers, _IGNORED)
            return pixels[:, y : y + h, x : x + w], cut[is_visible], numbers[is_visible]
    return pixels, regions, numbers
