"""Real photos the plain way: one at a time, decoded whole, by the network as it is, at full resolution.

No batches, no folded norms, no scale made from another, OpenCV's regions, torchvision's suppression.
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
from torch.nn import functional
from torchvision.ops import nms
from torchvision.transforms.v2 import functional as transforms

from flows.cli.application import run_command
from mining.boxes.iou import iou_matrix
from mining.corpus.images.decoding import network_input_size, scaled_input_size
from mining.localizers.base import probabilities
from mining.models.checkpoint import load_model
from tests.unit.regions.reference import reference_boxes

PHOTOS = 30
SCALES = (1.0, 1.5, 2.0)
MINED_FROM, COMPARED_FROM = 0.05, 0.1  # probabilities of a class, apart so that rounding takes none out
Pair = tuple[str, str]
Expected = dict[Pair, tuple[np.ndarray, float]]


@pytest.fixture(scope="module")
def photos(dataset: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Real ones, and one of them as a camera has it: large."""
    folder = tmp_path_factory.mktemp("photos")
    for path in sorted((dataset("voc-mini") / "images").rglob("*.jpg"))[:PHOTOS]:
        shutil.copyfile(path, folder / path.name)
    first = sorted(folder.iterdir())[0]
    Image.open(first).resize((2000, 1500), Image.Resampling.LANCZOS).save(folder / "large.jpg", quality=95)
    return folder


def mined(photos: Path, out: Path, *options: object) -> list[dict[str, Any]]:
    words = ["mine", "--images", photos, "--labels", "none", "--model", "pretrained:efficientnet_lite0", "--out", out]
    assert run_command([str(word) for word in (*words, "--class-cut", MINED_FROM, *options)]) == 0
    return pq.read_table(out / "annotations.parquet").to_pylist()


def plain(photos: Path, model: Path) -> Expected:
    """(n, 4) xyxy of each photo and class that reaches MINED_FROM, best first, and the class's probability."""
    localizer, card = load_model(model)
    found = {}
    for path in sorted(photos.iterdir()):
        image = torch.from_numpy(np.array(ImageOps.exif_transpose(Image.open(path)).convert("RGB"))).permute(2, 0, 1)
        height, width = image.shape[1:]
        size = network_input_size(height, width, short_side=card.input_size)
        seen = [
            transforms.resize_image(image[None], list(scaled_input_size(size, scale)), antialias=True)
            for scale in SCALES
        ]
        with torch.inference_mode():
            scores = probabilities(localizer(seen[0]), card.objective)[0]
            classes = [int(index) for index in scores.topk(5).indices if scores[index] >= MINED_FROM]
            maps = [localizer.localize(one, torch.tensor([classes])).maps for one in seen] if classes else []
            full = [functional.interpolate(one, (height, width), mode="bilinear", align_corners=False) for one in maps]
        for place, index in enumerate(classes):
            activation = sum(one[0, place] for one in full).numpy()
            boxes = reference_boxes(activation, threshold=localizer.threshold)
            sides = boxes.xyxy[:, 2:] - boxes.xyxy[:, :2]
            boxes = boxes[(sides.prod(axis=1) >= 0.01 * height * width) & (sides.max(axis=1) <= 12 * sides.min(axis=1))]
            kept = nms(torch.from_numpy(boxes.xyxy), torch.from_numpy(boxes.score), 0.5).numpy()
            found[path.name, card.class_names[index]] = boxes.xyxy[kept], float(scores[index])
    return found


def overlaps(rows: list[dict[str, Any]], expected: Expected) -> np.ndarray:
    """Of the best box of each photo and class with that of the plain way; 0 where one of them has none."""
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


def test_the_engine_finds_what_the_plain_way_finds(photos: Path, tmp_path: Path) -> None:
    """The same at full resolution, large photos included, and nearly so at the size that maps are cut at by default."""
    expected = None
    for name, options, least in (("full", ("--map-side", 100_000), 0.98), ("default", (), 0.95)):
        rows = mined(photos, tmp_path / name, *options)
        expected = expected or plain(photos, tmp_path / name / "model")
        found = overlaps(rows, expected)
        assert len(found) > PHOTOS
        assert found.min() >= least, name
