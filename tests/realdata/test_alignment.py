"""Real photos: the features of an image and of its mirror image show where cells look."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from mining.backbones.build import build
from mining.backbones.receptive_fields import cell_grid
from mining.corpus.images.decoding import read_image, resize_image


def best_shift(features: Tensor, mirrored: Tensor) -> float:
    """The shift in columns at which (C, h, w) features correlate best with others, between columns by a parabola."""
    width = features.shape[2]
    scores = []
    for shift in (-2, -1, 0, 1, 2):
        ours = features[..., max(0, shift) : width + min(0, shift)]
        theirs = mirrored[..., max(0, -shift) : width + min(0, -shift)]
        ours, theirs = (one - one.mean(dim=(1, 2), keepdim=True) for one in (ours, theirs))
        scores.append(float((ours * theirs).sum() / (ours.norm() * theirs.norm())))
    best = max((1, 2, 3), key=lambda place: scores[place])
    left, middle, right = scores[best - 1 : best + 2]
    return best - 2 + (left - right) / (left - 2 * middle + right) / 2


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "side"), [("efficientnet_lite0", 224), ("efficientnet_lite1", 240), ("efficientnet_lite2", 256)]
)
@pytest.mark.parametrize("axis", ["y", "x"])
def test_cells_look_where_mirrored_photos_show(dataset: Callable[[str], Path], name: str, side: int, axis: str) -> None:
    backbone = build(name, weights="imagenet")[0].eval()
    photos = sorted((dataset("voc-mini") / "images").iterdir())[::40]
    shifts = torch.zeros(len(photos), len(backbone.stages))
    for number, photo in enumerate(photos):
        image = resize_image(read_image(photo), (side, side))[None]
        dimension = 2 if axis == "y" else 3
        with torch.inference_mode():
            pairs = zip(backbone(image), backbone(image.flip(dimension)), strict=True)
            for stage, (features, mirrored) in enumerate(pairs):
                ours, theirs = features[0], mirrored.flip(dimension)[0]
                if axis == "y":
                    ours, theirs = ours.transpose(1, 2), theirs.transpose(1, 2)
                shifts[number, stage] = best_shift(ours, theirs)
    for stage in range(1, len(backbone.stages)):  # colours of the first one are too alike
        grid = cell_grid(backbone, (side, side), stage)
        assert grid is not None
        step = backbone.strides[stage]
        start = grid.start_y if axis == "y" else grid.start_x
        # cells that look too far left draw the image too far right, and its mirror image too: twice the distance
        assert abs(start - step / 2 + float(shifts[:, stage].median()) * step / 2) < 2
