"""Real images through a plain reference pipeline: one at a time, fully decoded, at full resolution.

No batches, no folded batch norms, each scale resized from the original, OpenCV's regions, torchvision's NMS.
"""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image, ImageOps
from torch import Tensor
from torch.nn import functional
from torchvision.ops import nms
from torchvision.transforms.v2 import functional as transforms

from flows.cli.application import run_command
from mining.backbones.receptive_fields import CellGrid
from mining.boxes.iou import iou_matrix
from mining.corpus.images.decoding import network_input_size, scaled_input_size
from mining.localizers.base import probabilities
from mining.models.checkpoint import load_model
from tests.unit.regions.reference import reference_boxes

SCALES = (1.0, 1.5, 2.0)
PLAIN = ("--refine", "none", "--scales", ",".join(map(str, SCALES)))
MINED_FROM, COMPARED_FROM = 0.05, 0.1  # class probabilities, apart so that rounding excludes no pair
Pair = tuple[str, str]
Expected = dict[Pair, tuple[np.ndarray, float]]


def copy_images(dataset: Path, folder: Path, count: int) -> Path:
    """Copy so many real images, and add one of them enlarged to the size of a camera's."""
    folder.mkdir()
    for path in sorted((dataset / "images").rglob("*.jpg"))[:count]:
        shutil.copyfile(path, folder / path.name)
    first = sorted(folder.iterdir())[0]
    Image.open(first).resize((2000, 1500), Image.Resampling.LANCZOS).save(folder / "large.jpg", quality=95)
    return folder


def mine(photos: Path, out: Path, *options: object) -> list[dict[str, Any]]:
    """Mine with boxmine; returns the rows."""
    words = ["mine", "--images", photos, "--labels", "none", "--model", "pretrained:efficientnet_lite0", "--out", out]
    assert run_command([str(word) for word in (*words, *PLAIN, "--class-cut", MINED_FROM, *options)]) == 0
    return pq.read_table(out / "annotations.parquet").to_pylist()


def mine_plainly(photos: Path, model: Path) -> Expected:
    """Mine with the reference pipeline.

    Returns:
        For each image and class that reaches MINED_FROM: the boxes, (n, 4) xyxy, best first, and its probability.
    """
    localizer, card = load_model(model)
    boxes_of = {}
    for path in sorted(photos.iterdir()):
        image = torch.from_numpy(np.array(ImageOps.exif_transpose(Image.open(path)).convert("RGB"))).permute(2, 0, 1)
        height, width = image.shape[1:]
        size = network_input_size(height, width, short_side=card.input_size)
        inputs = [
            transforms.resize_image(image[None], list(scaled_input_size(size, scale)), antialias=True)
            for scale in SCALES
        ]
        with torch.inference_mode():
            scores = probabilities(localizer(inputs[0]), card.objective)[0]
            classes = [int(index) for index in scores.topk(5).indices if scores[index] >= MINED_FROM]
            maps = [localizer.localize(image, torch.tensor([classes])).maps for image in inputs] if classes else []
            full = [
                place_cells(one, localizer.cell_grid(image.shape[-2:]), image.shape[-2:], (height, width))
                for one, image in zip(maps, inputs, strict=True)
            ]
        for place, index in enumerate(classes):
            activation = sum(one[0, place] for one in full).numpy()
            boxes = reference_boxes(activation, threshold=localizer.threshold)
            sides = boxes.xyxy[:, 2:] - boxes.xyxy[:, :2]
            boxes = boxes[(sides.prod(axis=1) >= 0.01 * height * width) & (sides.max(axis=1) <= 12 * sides.min(axis=1))]
            kept = nms(torch.from_numpy(boxes.xyxy), torch.from_numpy(boxes.score), 0.5).numpy()
            boxes_of[path.name, card.class_names[index]] = boxes.xyxy[kept], float(scores[index])
    return boxes_of


def place_cells(maps: Tensor, grid: CellGrid, size: tuple[int, int], target: tuple[int, int]) -> Tensor:
    """Resize (1, K, h, w) maps of an input of `size` px to `target`; columns where cells look, rows about the middle."""
    rows, columns = maps.shape[-2:]
    starts = (size[0] - (rows - 1) * grid.step_y) / 2, grid.start_x
    axes = [
        ((torch.arange(pixels) + 0.5) * side / pixels - start) / step
        for pixels, side, start, step in zip(target, size, starts, (grid.step_y, grid.step_x), strict=True)
    ]
    y, x = ((2 * axis + 1) / cells - 1 for axis, cells in zip(axes, (rows, columns), strict=True))
    points = torch.stack(torch.meshgrid(y, x, indexing="ij")[::-1], dim=-1).float()
    return functional.grid_sample(maps, points[None], padding_mode="border", align_corners=False)


def best_box_ious(rows: list[dict[str, Any]], expected: Expected) -> np.ndarray:
    """IoU of the best box of each image and class with the reference's; 0 where only one of them has a box."""
    best: dict[Pair, list[float]] = {}
    for row in sorted(rows, key=lambda row: -row["score"]):
        corners = [row["x"], row["y"], row["x"] + row["w"], row["y"] + row["h"]]
        best.setdefault((row["file_name"], row["category"]), corners)
    sure = {(row["file_name"], row["category"]) for row in rows if row["class_score"] >= COMPARED_FROM}
    pairs = sure | {pair for pair, (boxes, score) in expected.items() if len(boxes) and score >= COMPARED_FROM}
    return np.array([
        iou_matrix([best[pair]], expected[pair][0][:1])[0, 0] if pair in best and pair in expected else 0
        for pair in sorted(pairs)
    ])  # fmt: skip


@pytest.mark.parametrize(("count", "pairs"), [(8, 6), pytest.param(30, 30, marks=pytest.mark.slow)])
def test_the_engine_gives_the_boxes_of_the_reference_pipeline(
    count: int, pairs: int, dataset: Callable[[str], Path], tmp_path: Path
) -> None:
    """Equal boxes at full resolution, also of large images, and nearly equal ones at the default map size."""
    photos = copy_images(dataset("voc-mini"), tmp_path / "photos", count)
    expected = None
    for name, options, least in (("full", ("--map-side", 100_000), 0.98), ("default", (), 0.95)):
        rows = mine(photos, tmp_path / name, *options, "--precision", "float32")
        expected = expected or mine_plainly(photos, tmp_path / name / "model")
        ious = best_box_ious(rows, expected)
        assert len(ious) > pairs
        assert ious.min() >= least, name
