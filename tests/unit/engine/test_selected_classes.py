"""Mining with some of a model's classes, or with renamed classes."""

from pathlib import Path
from typing import Any

import pytest

from mining.errors import ModelError, RunError
from mining.models.card import read_card
from mining.runs.mining_job import finish_mining, plan_mining
from mining.runs.shard_mining import mine_shard
from tests.unit.engine.painting import (
    ALL,
    BLUE,
    GREEN,
    RED,
    ImageResult,
    Labels,
    list_painted,
    planned_run,
    results_by_file,
    scene,
)

LEFT, RIGHT, MIDDLE = (8, 16, 32, 48), (64, 16, 88, 48), (40, 16, 56, 48)
PICTURES = {
    "a.png": scene((LEFT, RED), (RIGHT, GREEN)),
    "b.png": scene((MIDDLE, BLUE)),
    "c.png": scene((LEFT, GREEN)),
}


@pytest.fixture(autouse=True)
def _register_painted(monkeypatch: pytest.MonkeyPatch) -> None:
    list_painted(monkeypatch)


def mined(folder: Path, labels: Labels | None = None, **options: Any) -> dict[str, ImageResult]:
    run = planned_run(folder, PICTURES, labels, **options)
    mine_shard(run, 0)
    return results_by_file(run)


def test_only_the_selected_classes_are_predicted(tmp_path: Path) -> None:
    found = mined(tmp_path, classes=["green", "blue"])
    assert {name: one.classes for name, one in found.items()} == {
        "a.png": ["green"],
        "b.png": ["blue"],
        "c.png": ["green"],
    }


def test_boxes_of_a_selected_class_equal_those_of_an_unrestricted_run(tmp_path: Path) -> None:
    whole, part = mined(tmp_path / "whole"), mined(tmp_path / "part", classes=["green"])
    for name in PICTURES:
        expected = [row for row in whole[name].rows if row["category"] == "green"]
        assert [(r["x"], r["y"], r["w"], r["h"], r["score"], r["category_id"]) for r in part[name].rows] == [
            (r["x"], r["y"], r["w"], r["h"], r["score"], r["category_id"]) for r in expected
        ]


def test_a_merged_class_uses_its_most_probable_member(tmp_path: Path) -> None:
    found = mined(tmp_path, map={"red": "warm", "blue": "warm"}, classes=["warm"], scales=(1.0, 2.0))
    assert {name: (one.state, one.classes, one.boxes) for name, one in found.items()} == {
        "a.png": ("labelled", ["warm"], [LEFT]),
        "b.png": ("labelled", ["warm"], [MIDDLE]),
        "c.png": ("no_class", [], []),
    }


def test_an_adaptive_pyramid_keeps_the_selected_member_of_a_merged_class(tmp_path: Path) -> None:
    options: dict[str, Any] = {"map": {"red": "warm", "blue": "warm"}, "scales": (1.0, 1.5, 2.0), "class_cut": 0.0}
    found = mined(tmp_path, classes=["warm"], adaptive=0.99, **options)
    assert (found["a.png"].boxes, found["b.png"].boxes) == ([LEFT], [MIDDLE])


def test_labels_are_matched_after_renaming_and_labels_of_unselected_classes_are_ignored(tmp_path: Path) -> None:
    labels = {"a.png": ("rose", "green"), "b.png": ("blue",), "c.png": ()}
    found = mined(tmp_path, labels, classes=["rose"], map=["red=rose"])
    assert (found["a.png"].classes, found["a.png"].boxes) == (["rose"], [LEFT])
    assert (found["b.png"].state, found["c.png"].state) == ("no_class", "no_class")


def test_a_label_with_the_original_name_of_a_renamed_class_is_rejected_with_a_suggestion(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"does not know the class 'red' of .*labels.csv: .*'reddish'"):
        mined(tmp_path, {"a.png": ("red",)}, map=["red=reddish"])


def test_class_thresholds_use_the_new_class_names(tmp_path: Path) -> None:
    assert mined(tmp_path, map=["red=rose"], class_thresholds={"rose": 0.9})["a.png"].rows[0][
        "threshold"
    ] == pytest.approx(0.9)
    with pytest.raises(ModelError, match="'red' of class_thresholds"):
        mined(tmp_path / "second", map=["red=rose"], class_thresholds={"red": 0.9})


def test_the_model_card_and_coco_file_of_a_run_list_only_the_selected_classes(tmp_path: Path) -> None:
    run = planned_run(tmp_path, PICTURES, None, classes=["rose"], map=["red=rose"])
    mine_shard(run, 0)
    summary = finish_mining(run)
    assert (summary.classes, summary.boxes) == (1, 1)
    assert read_card(run.model).classes == [{"id": 7, "name": "rose"}]
    assert '"categories":[{"supercategory":"","id":7,"name":"rose"}]' in run.coco.read_text().replace(" ", "")
    assert (run.record["config"]["classes"], run.record["config"]["map"]) == (["rose"], ["red=rose"])


def test_a_run_cannot_be_resumed_with_other_classes(tmp_path: Path) -> None:
    run = planned_run(tmp_path, PICTURES, None, classes=["red"])
    with pytest.raises(RunError, match="classes"):
        plan_mining(run.settings.model_copy(update={"classes": ("green",)}))
    assert plan_mining(run.settings).images == len(PICTURES)


def test_an_unknown_class_is_rejected_before_the_run_is_created(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="class 'gren' of --classes: did you mean 'green'"):
        planned_run(tmp_path, PICTURES, None, classes=["gren"])
    assert not (tmp_path / "run" / "run.json").exists()
    assert set(mined(tmp_path, dict.fromkeys(PICTURES, ALL))["a.png"].classes) == {"red", "green"}


def test_a_run_recorded_without_class_selection_can_be_resumed(tmp_path: Path) -> None:
    run = planned_run(tmp_path, PICTURES, None)
    config = {name: value for name, value in run.record["config"].items() if name not in ("classes", "map")}
    run.update(config=config)
    assert plan_mining(run.settings).images == len(PICTURES)
