"""Boxes of the category `object`: images in which no class is probable enough."""

import json
from collections.abc import Callable
from itertools import chain
from pathlib import Path
from typing import Any

import pytest

from mining.engine.miner import Miner
from mining.engine.single_image import SingleImageMiner
from mining.errors import ModelError
from mining.models.card import read_card
from mining.models.checkpoint import load_model
from mining.runs.mining_job import finish_mining
from mining.runs.shard_mining import mine_shard
from tests.unit.engine.painting import (
    BOX,
    GREEN,
    RED,
    ImageResult,
    comparable,
    crowd,
    painted_model,
    planned_run,
    scene,
)
from tests.unit.engine.test_refined_maps import write_painted_cells

Mined = Callable[..., dict[str, ImageResult]]
GREY = (100, 100, 100)  # 0.33 probability of each class
OTHER_BOX = (4, 4, 28, 40)


def pictures() -> dict[str, Any]:
    return {"grey.png": scene((BOX, GREY)), "red.png": scene((OTHER_BOX, RED))}


@pytest.mark.parametrize("refine", ["none", "walk", "cells"])
@pytest.mark.parametrize("objective", ["multi", "single"])
def test_an_image_without_a_probable_class_has_a_box_of_the_category_object(
    mined: Mined, tmp_path: Path, refine: str, objective: str
) -> None:
    model = (write_painted_cells if refine == "cells" else painted_model)(tmp_path / "model")
    card = json.loads((model / "model.json").read_text())
    (model / "model.json").write_text(json.dumps({**card, "objective": objective}))
    found = mined(pictures(), None, model=model, refine=refine, class_cut=0.5, object_boxes=True)
    (row,) = found["grey.png"].rows
    assert found["grey.png"].boxes == [BOX]
    assert (row["category"], row["category_id"], row["source"]) == ("object", 8, "object")
    probability = 1 / (1 + 2.71828 ** -(12 * (100 / 255 - 0.5)))
    expected = 1 - (1 - probability) ** 3 if objective == "multi" else 1
    assert row["class_score"] == pytest.approx(expected, abs=0.01)
    assert 0 < row["score"] <= 1
    assert found["red.png"].classes == ["red"]
    assert found["red.png"].rows[0]["source"] == "prediction"


def test_without_the_option_such_an_image_has_no_class(mined: Mined) -> None:
    found = mined(pictures(), None, class_cut=0.5)
    assert (found["grey.png"].state, found["red.png"].state) == ("no_class", "labelled")


def test_labelled_images_have_boxes_of_their_labels_alone(mined: Mined) -> None:
    labels = {"grey.png": (), "red.png": ("red",)}
    found = mined(pictures(), labels, class_cut=0.5, object_boxes=True)
    assert (found["grey.png"].state, found["red.png"].classes) == ("no_class", ["red"])


def test_an_object_is_what_any_of_the_probable_classes_sees(mined: Mined) -> None:
    """Half of the rectangle is as red as the other half is green."""
    halves = scene(((32, 16, 56, 48), (110, 0, 0)), ((56, 16, 80, 48), (0, 110, 0)))
    (box,) = mined({"a.png": halves}, None, class_cut=0.5, object_boxes=True)["a.png"].boxes
    assert box == BOX


def test_classes_that_are_not_mined_still_show_the_object(mined: Mined) -> None:
    green = {"a.png": scene((BOX, GREEN))}
    found = mined(green, None, class_cut=0.5, object_boxes=True, classes=("red",))["a.png"]
    assert (found.classes, found.boxes) == (["object"], [BOX])


@pytest.mark.parametrize("batch_size", [2, 16])
@pytest.mark.parametrize("adaptive", [None, 0.6])
def test_rows_do_not_depend_on_the_batch_size(mined: Mined, batch_size: int, adaptive: float | None) -> None:
    options = {"class_cut": 0.993, "object_boxes": True, "scales": (1.0, 1.5), "adaptive": adaptive}
    single, several = (mined(crowd(), None, batch_size=size, **options) for size in (1, batch_size))
    sources = [row["source"] for one in single.values() for row in one.rows]
    assert min(sources.count("object"), sources.count("prediction")) >= 3
    assert comparable(single) == comparable(several)


def test_a_run_lists_the_category_and_keeps_its_ranking_to_the_classes(tmp_path: Path) -> None:
    run = planned_run(tmp_path, pictures(), None, class_cut=0.5, object_boxes=True)
    mine_shard(run, 0)
    finish_mining(run)
    coco = json.loads(run.coco.read_text())
    assert [(one["id"], one["name"]) for one in coco["categories"]][-1] == (8, "object")
    assert [one["category_id"] for one in coco["annotations"]] == [8, 7]
    assert run.classes[-1] == (8, "object")
    assert set(chain.from_iterable(run.read_rankings()["category_ids"].to_pylist())) == {3, 5, 7}


@pytest.mark.parametrize("refine", ["none", "walk"])
def test_the_map_of_an_object_can_be_drawn(tmp_path: Path, refine: str) -> None:
    run = planned_run(tmp_path, pictures(), None, class_cut=0.5, object_boxes=True, refine=refine)
    miner = Miner(*load_model(run.model, run.settings), run.settings)
    for name, box in (("grey.png", BOX), ("red.png", OTHER_BOX)):  # of red.png, no box of an object was mined
        drawn = miner.fused_map({"image_id": 1, "file_name": name, "labels": None}, "object")
        inside = drawn[box[1] : box[3], box[0] : box[2]]
        assert inside.min() > 0.5 * drawn.max() > 0
        assert drawn.sum() == pytest.approx(inside.sum(), rel=0.2)
    assert miner.fused_map({"image_id": 1, "file_name": "grey.png", "labels": None}, "red").max() > 0


def test_a_heatmap_of_an_object_can_be_asked_for(tmp_path: Path) -> None:
    run = planned_run(tmp_path, pictures(), None, object_boxes=True)
    miner = SingleImageMiner(*load_model(run.model, run.settings), run.settings)
    level = miner.heatmap(run.image_root / "grey.png", "object")
    assert (level.shape, level[32, 60], level[4, 4]) == ((64, 96), 1, 0)
    (box,) = miner.mine_image(run.image_root / "red.png", ["object", "red"]).boxes
    assert box["category"] == "red"


def test_a_model_with_a_class_of_that_name_is_refused(tmp_path: Path) -> None:
    model = painted_model(tmp_path / "model")
    text = (model / "model.json").read_text().replace('"red"', '"object"')
    (model / "model.json").write_text(text)
    with pytest.raises(ModelError, match="--map object=NAME"):
        planned_run(tmp_path, pictures(), None, model=model, object_boxes=True)
    run = planned_run(tmp_path, pictures(), None, model=model, object_boxes=True, map=["object=thing"])
    assert read_card(run.model).class_names == ["thing", "green", "blue", "object"]
