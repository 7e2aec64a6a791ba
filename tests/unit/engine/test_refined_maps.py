"""Refined maps in mining: boxes, columns and scores, and that they depend on neither batch size nor pyramid."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import pytest
import torch
from torch import nn

from mining.config import MineOptions
from mining.corpus import read_shard
from mining.engine.miner import Miner
from mining.engine.single_image import SingleImageMiner
from mining.errors import ModelError
from mining.localizers.cell_classifier import CellClassifier
from mining.localizers.options import CellSpec
from mining.models.card import ModelCard, read_card
from mining.models.checkpoint import build_localizer, load_model, save_model
from mining.models.overrides import CELL_THRESHOLD, extraction_params
from tests.factories import slow_except
from tests.unit.engine.painting import ALL, BOX, CLASSES, RED, SHORT_SIDE, ImageResult, planned_run, scene

Mined = Callable[..., dict[str, ImageResult]]
DARK_RED = (140, 0, 0)
PART = (32, 16, 48, 32)  # of BOX


def write_painted_cells(folder: Path) -> Path:
    """A model whose cell classifier sees a class in every pixel of its colour that is brighter than a quarter."""
    listed = [{"id": number, "name": name} for name, number in CLASSES.items()]
    card = ModelCard("painted", "pixels", "multi", listed, SHORT_SIDE, {}, cells=CellSpec([0], [3], hidden=3))
    localizer, _ = build_localizer(card)
    cells = localizer.cells
    assert isinstance(cells, CellClassifier)
    first, last = cells.layers[0], cells.layers[3]
    with torch.no_grad():
        cells.projections[0].matrix.copy_(torch.eye(3) / 64)  # 0-255 to 0-4, below the clip
        first.weight.copy_(torch.eye(3))
        first.bias.zero_()
        last.weight.copy_(torch.cat([6 * torch.eye(3), torch.zeros(1, 3)]))
        last.bias.copy_(torch.tensor([0.0, 0.0, 0.0, 6.0]))
    save_model(folder, localizer, card)
    return folder


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_painted_cells(tmp_path / "cells")


@pytest.fixture
def mine_refined(mined: Mined, model: Path) -> Mined:
    def mine(pictures: Any, labels: Any, **options: Any) -> dict[str, ImageResult]:
        return mined(pictures, labels, **{"model": model, "refine": None, **options})

    return mine


def partly_bright() -> Any:
    """A dark red rectangle, whose corner alone is bright enough for the class map."""
    return scene((BOX, DARK_RED), (PART, RED))


def test_the_cell_classifier_finds_the_object_of_which_the_class_map_shows_a_part(mine_refined: Mined) -> None:
    pictures, labels = {"a.png": partly_bright()}, {"a.png": ("red",)}
    own = mine_refined(pictures, labels, refine="none", threshold=0.6)["a.png"]
    refined = mine_refined(pictures, labels)["a.png"]
    assert own.boxes == [PART]
    assert refined.boxes == [BOX]
    assert (own.rows[0]["refinement"], refined.rows[0]["refinement"]) == ("none", "cells")
    assert refined.rows[0]["threshold"] == CELL_THRESHOLD


def test_the_score_is_the_product_of_its_columns(mine_refined: Mined) -> None:
    (row,) = mine_refined({"a.png": partly_bright()}, {"a.png": ("red",)})["a.png"].rows
    assert row["mean_probability"] == pytest.approx(1, abs=0.05)
    assert row["cut_agreement"] == pytest.approx(1, abs=0.1)
    assert 0.1 < row["map_agreement"] <= 1
    agreement = (row["cut_agreement"] + row["map_agreement"]) / 2
    assert row["score"] == pytest.approx(row["mean_probability"] * agreement, rel=1e-5)


def test_the_score_of_a_predicted_class_has_its_probability_as_a_factor(mine_refined: Mined) -> None:
    pictures = {"a.png": partly_bright()}
    (known,) = mine_refined(pictures, {"a.png": ("red",)})["a.png"].rows
    (predicted,) = mine_refined(pictures, None)["a.png"].rows
    assert predicted["source"] == "prediction"
    assert predicted["score"] == pytest.approx(known["score"] * predicted["class_score"], rel=1e-5)


def test_rows_of_other_maps_have_no_factors(mine_refined: Mined) -> None:
    pictures, labels = {"a.png": partly_bright()}, {"a.png": ("red",)}
    for refine in ("none", "walk", "cut"):
        (row,) = mine_refined(pictures, labels, refine=refine)["a.png"].rows
        assert row["refinement"] == refine
        assert [row[name] for name in ("mean_probability", "cut_agreement", "map_agreement")] == [None] * 3
        assert row["score"] == pytest.approx(row["class_score"] * row["peak"], rel=1e-5)


def test_a_cut_covers_the_object_of_which_the_class_map_shows_a_part(mine_refined: Mined) -> None:
    found = mine_refined({"a.png": partly_bright()}, {"a.png": ("red",)}, refine="cut")["a.png"]
    assert found.boxes == [BOX]


def several() -> dict[str, Any]:
    return {
        "a.png": partly_bright(), "b.png": scene((BOX, RED)), "c.png": scene((PART, (0, 200, 0)), (BOX, DARK_RED)),
        "d.png": scene(), "e.png": scene(((4, 4, 60, 60), (0, 0, 255)), height=96, width=64),
    }  # fmt: skip


@pytest.mark.parametrize("refine", ["cells", "walk", "cut"])
@pytest.mark.parametrize("labels", [dict.fromkeys(several(), ALL), None])
def test_refined_rows_do_not_depend_on_the_batch_size(mine_refined: Mined, refine: str, labels: Any) -> None:
    single = mine_refined(several(), labels, refine=refine, batch_size=1)
    assert sum(len(one.rows) for one in single.values()) >= 4
    for size in (2, 16):
        several_at_once = mine_refined(several(), labels, refine=refine, batch_size=size)
        for first, second in zip(single.values(), several_at_once.values(), strict=True):
            scores = ([row["score"] for row in one.rows] for one in (first, second))
            assert first.boxes == second.boxes
            assert next(scores) == pytest.approx(next(scores), abs=1e-5)


@pytest.mark.parametrize("scales", slow_except([(1.0, 1.5, 2.0)], [(1.0, 1.5), (1.0, 1.5, 2.0), (0.5, 1.0)]))
@pytest.mark.parametrize("labels", [{"a.png": ("red",)}, None])
def test_an_adaptive_pyramid_of_refined_maps_finds_the_same_object(
    mine_refined: Mined, scales: tuple[float, ...], labels: Any
) -> None:
    for adaptive in (None, 0.01, 0.99):
        found = mine_refined({"a.png": partly_bright()}, labels, scales=scales, adaptive=adaptive)["a.png"]
        assert found.boxes[0] == pytest.approx(BOX, abs=3)


def test_threshold_curves_have_the_best_box_of_the_refined_map(mine_refined: Mined) -> None:
    for curves in (True, False):
        found = mine_refined({"a.png": partly_bright()}, {"a.png": ("red",)}, curves=curves)["a.png"]
        assert found.boxes == [BOX]


# --- which refinement ------------------------------------------------------------------------------------------------


def card_of(model: Path, *, has_cells: bool) -> ModelCard:
    card = read_card(model)
    return card if has_cells else replace(card, cells=None)


@pytest.mark.parametrize(
    ("has_cells", "asked", "used"),
    [
        (True, None, "cells"),
        (False, None, "walk"),
        (True, "walk", "walk"),
        (True, "none", "none"),
        (False, "cut", "cut"),
    ],
)
def test_a_cell_classifier_is_used_where_there_is_one(
    model: Path, has_cells: bool, asked: str | None, used: str
) -> None:
    card = card_of(model, has_cells=has_cells)
    params = extraction_params(card, MineOptions(refine=asked))
    assert params.refine == used
    assert params.normalise == "max"
    assert params.threshold == {"cells": 0.5, "walk": pytest.approx(0.4), "cut": 0.3, "none": 0.25}[used]
    assert params.scales == {"cells": (1.5,), "walk": (1, 1.5), "cut": (1, 1.5), "none": (1, 1.5, 2)}[used]


def test_a_cell_classifier_that_is_not_there_is_refused(model: Path) -> None:
    with pytest.raises(ModelError, match="--refine cells needs a model with a cell classifier"):
        extraction_params(card_of(model, has_cells=False), MineOptions(refine="cells"))


# --- model folders ---------------------------------------------------------------------------------------------------


def test_a_model_folder_keeps_its_cell_classifier(model: Path) -> None:
    localizer, card = load_model(model)
    assert card.cells == CellSpec([0], [3], hidden=3)
    assert isinstance(localizer.cells, CellClassifier)
    assert torch.equal(localizer.cells.layers[3].bias, nn.Parameter(torch.tensor([0.0, 0.0, 0.0, 6.0])))


@pytest.mark.parametrize(
    "damage",
    [
        {"stages": []},
        {"stages": [0, 1]},
        {"components": [0]},
        {"hidden": 0},
        {"stages": [-1]},
        {"components": ["many"]},
    ],
)
def test_a_card_with_an_impossible_cell_classifier_is_refused(model: Path, damage: dict[str, Any]) -> None:
    path = model / "model.json"
    record = json.loads(path.read_text())
    record["cells"] |= damage
    path.write_text(json.dumps(record))
    with pytest.raises(ModelError, match="is not a boxmine model"):
        read_card(model)


# --- maps for display ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("labels", [["red", "green"], None])
def test_a_map_for_display_is_the_one_that_boxes_were_extracted_from(
    model: Path, tmp_path: Path, labels: list[str] | None
) -> None:
    """The classes of the image compete, also where the map of one of them is drawn."""
    pictures = {"a.png": scene((BOX, (200, 180, 0)))}  # more red than green
    run = planned_run(tmp_path, pictures, labels and {"a.png": tuple(labels)}, model=model, refine=None)
    localizer, card = load_model(run.model, run.settings)
    miner = Miner(localizer, card, run.settings)
    (row,) = read_shard(run.corpus, 0).to_pylist()
    mined: dict[str, Any] = {}
    miner.mine([row], on_map=lambda _, name, activation: mined.update({name: activation}))
    assert {"red", "green"} <= mined.keys()
    for name, activation in mined.items():
        drawn = miner.fused_map(row, name)
        resized = cv2.resize(activation, drawn.shape[::-1], interpolation=cv2.INTER_LINEAR)
        assert abs(drawn - resized).max() < 0.05
    assert miner.fused_map(row, "blue").shape == miner.fused_map(row, "red").shape
    alone = miner.fused_map({**row, "labels": ["green"]}, "green")
    assert alone.max() > 2 * mined["green"].max()


def test_a_heatmap_may_be_computed_among_the_classes_of_the_image(model: Path, tmp_path: Path) -> None:
    run = planned_run(tmp_path, {"a.png": scene((BOX, (200, 180, 0)))}, None, model=model, refine=None)
    miner = SingleImageMiner(*load_model(run.model, run.settings), run.settings)
    image = run.image_root / "a.png"
    alone, among = miner.heatmap(image, "green"), miner.heatmap(image, "green", ["green", "red"])
    assert alone.shape == among.shape == (64, 96)
    assert alone.max() == among.max() == 1


# --- parts of regions ------------------------------------------------------------------------------------------------

SIDE_BY_SIDE = ((8, 16, 40, 48), (56, 16, 88, 48))


def joined(second: tuple[int, int, int] = RED) -> Any:
    """Two bright rectangles, joined by a darker one."""
    return scene(((8, 16, 88, 48), (150, 0, 0)), (SIDE_BY_SIDE[0], RED), (SIDE_BY_SIDE[1], second))


def write_gradual_cells(folder: Path) -> Path:
    """A model whose cell classifier is less sure of darker cells: 0.62 of red's maximum for the joint of `joined`."""
    write_painted_cells(folder)
    localizer, card = load_model(folder)
    assert isinstance(localizer.cells, CellClassifier)
    with torch.no_grad():
        localizer.cells.layers[3].bias[3] = 13.6
    (folder / "weights.safetensors").unlink()
    save_model(folder, localizer, card)
    return folder


def test_parts_of_a_region_have_boxes_that_score_below_it(mined: Mined, tmp_path: Path) -> None:
    model = write_gradual_cells(tmp_path / "gradual")
    options = {"model": model, "refine": "cells", "walk_steps": 0}
    found = mined({"a.png": joined()}, {"a.png": ("red",)}, **options)["a.png"]
    assert found.boxes == [(8, 16, 88, 48), *SIDE_BY_SIDE]
    assert [row["is_part"] for row in found.rows] == [False, True, True]
    assert [row["threshold"] for row in found.rows] == pytest.approx([CELL_THRESHOLD, 0.8, 0.8])
    region, *parts = (row["score"] for row in found.rows)
    assert parts == pytest.approx([0.3 * region] * 2, rel=1e-5)  # alone, they would score higher
    without = mined({"a.png": joined()}, {"a.png": ("red",)}, parts=False, **options)["a.png"]
    assert without.rows == found.rows[:1]


def test_parts_that_score_too_low_are_left_out(mined: Mined, tmp_path: Path) -> None:
    model = write_gradual_cells(tmp_path / "gradual")
    found = mined({"a.png": joined()}, {"a.png": ("red",)}, model=model, refine="cells", walk_steps=0, min_score=0.4)
    assert [row["is_part"] for row in found["a.png"].rows] == [False]
