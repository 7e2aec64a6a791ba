"""Class probabilities as the mean over ten crops, square inputs, and boxes that are ordered by area."""

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from mining.config.mine import CURVE_THRESHOLDS
from mining.engine.class_crops import logits_of_mean, ten_crops
from mining.engine.miner import Miner
from mining.models.checkpoint import load_model
from mining.runs.shard_mining import mine_shard
from tests.unit.engine.painting import (
    BLUE,
    BOX,
    GREEN,
    RED,
    SHORT_SIDE,
    ImageResult,
    comparable,
    crowd,
    painted_model,
    planned_run,
    results_by_file,
    scene,
)
from tests.unit.engine.test_refined_maps import write_painted_cells

Mined = Callable[..., dict[str, ImageResult]]
SOURCE = 73  # px: SHORT_SIDE * 8 / 7, rounded; a square of it has crops of SHORT_SIDE with a margin of 9 px


def probability(colour: float) -> float:
    return 1 / (1 + np.exp(-12 * (colour - 0.5)))


# --- crops -----------------------------------------------------------------------------------------------------------


def test_ten_crops_are_the_corners_the_centre_and_their_mirror_images() -> None:
    image = torch.arange(3 * 6 * 8).view(3, 6, 8)
    crops = ten_crops(image, 4)
    expected = [image[:, y : y + 4, x : x + 4] for y, x in ((0, 0), (0, 4), (2, 0), (2, 4), (1, 2))]
    assert torch.equal(crops[:5], torch.stack(expected))
    assert torch.equal(crops[5:], torch.stack(expected).flip(-1))


@pytest.mark.parametrize("objective", ["single", "multi"])
def test_logits_of_the_mean_give_the_mean_probability(objective: str) -> None:
    logits = torch.randn(3, 10, 5, generator=torch.Generator().manual_seed(0)) * 4
    convert = torch.softmax if objective == "single" else lambda values, dim: values.sigmoid()
    found = convert(logits_of_mean(logits, objective), dim=1)
    assert torch.allclose(found, convert(logits, dim=2).mean(dim=1), atol=1e-6)


@pytest.mark.parametrize("objective", ["single", "multi"])
def test_certain_crops_have_finite_logits(objective: str) -> None:
    certain = torch.tensor([[[200.0, -200.0]] * 10])
    assert logits_of_mean(certain, objective).isfinite().all()


def test_an_object_in_a_corner_is_seen_by_the_crops_of_that_corner(mined: Mined) -> None:
    """Of ten crops, those of one corner and its mirror image contain it."""
    picture = scene(((0, 0, 3, 3), RED), height=64, width=64)
    whole, crops = (
        mined({"a.png": picture}, {"a.png": ("red",)}, class_crops=count, min_area=0.0)["a.png"] for count in (1, 10)
    )
    assert whole.boxes == crops.boxes == [(0, 0, 3, 3)]
    expected = (2 * probability(1) + 8 * probability(0)) / 10
    assert whole.rows[0]["class_score"] == pytest.approx(probability(1), abs=1e-3)
    assert crops.rows[0]["class_score"] == pytest.approx(expected, abs=0.01)


def test_predicted_classes_and_rankings_are_those_of_the_crops(mined: Mined) -> None:
    """Green fills the centre, which every crop shows; red is in a corner."""
    picture = scene(((0, 0, 3, 3), RED), ((28, 28, 40, 40), (0, 180, 0)), height=64, width=64)
    whole, crops = (
        mined({"a.png": picture}, None, class_cut=0.5, class_crops=count, min_area=0.0)["a.png"] for count in (1, 10)
    )
    assert set(whole.classes) == {"red", "green"}
    assert set(crops.classes) == {"green"}
    assert [one for one, _ in whole.outcome.ranked[:2]] == [7, 3]
    assert [one for one, _ in crops.outcome.ranked[:2]] == [3, 7]


@pytest.mark.parametrize("adaptive", [None, 0.6])
@pytest.mark.parametrize("resize", ["aspect", "square"])
def test_rows_of_crops_do_not_depend_on_the_batch_size(mined: Mined, adaptive: float | None, resize: str) -> None:
    options = {"class_crops": 10, "scales": (1.0, 1.5), "adaptive": adaptive, "resize": resize, "class_cut": 0.5}
    labels = dict.fromkeys(list(crowd())[::2], ("red",))
    for known in (None, {name: labels.get(name, ("green",)) for name in crowd()}):
        single, several = (mined(crowd(), known, batch_size=size, **options) for size in (1, 5))
        assert comparable(single) == comparable(several)
        assert sum(len(one.rows) for one in single.values()) > 5


# --- square inputs ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(64, 96), (96, 64), (40, 200)])
def test_the_input_is_a_square_at_every_scale(tmp_path: Path, shape: tuple[int, int]) -> None:
    pictures = {"a.png": scene((BOX, RED), height=shape[0], width=shape[1])}
    run = planned_run(tmp_path, pictures, {"a.png": ("red",)}, resize="square", scales=(1.0, 1.5), class_crops=10)
    miner = Miner(*load_model(run.model, run.settings), run.settings)
    image = miner.prepare(0, {"image_id": 1, "file_name": "a.png", "labels": ["red"]})
    sides = {scale: tuple(pixels.shape[1:]) for scale, pixels in image.pixels.items()}
    assert sides == {1.0: (SHORT_SIDE, SHORT_SIDE), 1.5: (96, 96)}
    assert image.crops is not None
    assert tuple(image.crops.shape) == (10, 3, SHORT_SIDE, SHORT_SIDE)


@pytest.mark.parametrize("box", [(30, 10, 110, 50), (0, 0, 70, 80)])
@pytest.mark.parametrize("localizer", ["painted", "half-a-cell-late"])
def test_boxes_of_squeezed_images_are_in_pixels_of_the_image(
    mine_one: Callable[..., ImageResult], box: tuple[int, int, int, int], localizer: str
) -> None:
    picture = scene((box, RED), height=80, width=160)
    found = mine_one(picture, "red", resize="square", localizer=localizer, threshold=0.5)
    pixel_of_the_network = 160 / SHORT_SIDE
    assert np.abs(np.subtract(found.boxes, [box])).max() <= 2 * pixel_of_the_network


# --- order by area ---------------------------------------------------------------------------------------------------

SMALL, LARGE = (4, 4, 20, 20), (40, 8, 90, 60)
THINGS = scene((SMALL, RED), (LARGE, (180, 0, 0)))


@pytest.mark.parametrize(("rank_by", "order"), [("score", [SMALL, LARGE]), ("area", [LARGE, SMALL])])
def test_the_largest_region_is_first_if_boxes_are_ranked_by_area(
    mine_one: Callable[..., ImageResult], rank_by: str, order: list[tuple[int, ...]]
) -> None:
    assert mine_one(THINGS, "red", rank_by=rank_by).boxes == order


@pytest.mark.parametrize("curves", [True, False])
def test_a_score_by_area_is_a_share_of_the_largest_region_times_that_of_the_class(
    mine_one: Callable[..., ImageResult], curves: bool
) -> None:
    found = mine_one(THINGS, "red", rank_by="area", curves=curves, threshold=0.5)
    class_score = found.rows[0]["class_score"]
    shares = [row["score"] / class_score for row in found.rows]
    assert shares == pytest.approx([1, 16 * 16 / (50 * 52)], abs=0.01)
    assert [row["peak"] for row in found.rows] == pytest.approx([180 / 255, 1], abs=0.01)


def test_a_minimum_score_drops_small_regions(mine_one: Callable[..., ImageResult]) -> None:
    assert mine_one(THINGS, "red", rank_by="area", min_score=0.5).boxes == [LARGE]


@pytest.mark.parametrize("min_score", [0.0, 0.5])
def test_curves_have_the_box_that_is_first_by_area(tmp_path: Path, min_score: float) -> None:
    """The larger region is too dark for high thresholds."""
    run = planned_run(tmp_path, {"a.png": THINGS}, {"a.png": ("red",)}, rank_by="area", min_score=min_score)
    mine_shard(run, 0)
    (row,) = pq.read_table(run.curve_part(0)).to_pylist()
    boxes = dict(zip(CURVE_THRESHOLDS, np.array(row["xyxy"]).reshape(-1, 4).tolist(), strict=True))
    assert boxes[0.3] == list(LARGE)
    assert boxes[0.9] == list(SMALL)
    assert results_by_file(run)["a.png"].boxes[0] == LARGE


@pytest.mark.parametrize("adaptive", [None, 0.6])
def test_the_order_by_area_is_that_of_every_class(mined: Mined, adaptive: float | None) -> None:
    pictures: Mapping[str, np.ndarray] = {"a.png": scene((SMALL, BLUE), (LARGE, (0, 0, 180)), ((70, 2, 74, 6), GREEN))}
    labels = {"a.png": ("blue", "green")}
    options = {"scales": (1.0, 1.5), "adaptive": adaptive, "rank_by": "area", "min_area": 0.0}
    found = mined(pictures, labels, **options)["a.png"]
    blue = [box for box, category in zip(found.boxes, found.classes, strict=True) if category == "blue"]
    assert np.abs(np.subtract(blue, [LARGE, SMALL])).max() <= 2


@pytest.mark.parametrize("refine", ["walk", "cells"])
def test_the_largest_region_of_a_refined_map_is_first(mined: Mined, tmp_path: Path, refine: str) -> None:
    model = (write_painted_cells if refine == "cells" else painted_model)(tmp_path / "model")
    options = {"model": model, "refine": refine, "walk_steps": 0, "rank_by": "area", "threshold": 0.5}
    found = mined({"a.png": THINGS}, {"a.png": ("red",)}, **options)["a.png"]
    sizes = [row["area"] for row in found.rows if not row["is_part"]]
    assert len(sizes) == 2
    assert sizes == sorted(sizes, reverse=True)
    assert found.rows[0]["score"] == pytest.approx(found.rows[0]["class_score"])
