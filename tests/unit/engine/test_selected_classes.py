"""Mining with a part of a model's classes, or under other names."""

from pathlib import Path
from typing import Any

import pytest

from mining.errors import ModelError, RunError
from mining.models.card import read_card
from mining.runs.mining_job import finish_mining, plan_mining
from mining.runs.shard_mining import mine_shard
from tests.unit.engine.painting import ALL, BLUE, GREEN, RED, Found, Labels, found_in, list_painted, opened, scene

LEFT, RIGHT, MIDDLE = (8, 16, 32, 48), (64, 16, 88, 48), (40, 16, 56, 48)
PICTURES = {
    "a.png": scene((LEFT, RED), (RIGHT, GREEN)),
    "b.png": scene((MIDDLE, BLUE)),
    "c.png": scene((LEFT, GREEN)),
}


@pytest.fixture(autouse=True)
def _painted(monkeypatch: pytest.MonkeyPatch) -> None:
    list_painted(monkeypatch)


def mined(folder: Path, labels: Labels | None = None, **options: Any) -> dict[str, Found]:
    run = opened(folder, PICTURES, labels, **options)
    mine_shard(run, 0)
    return found_in(run)


def test_only_the_selected_classes_are_predicted(tmp_path: Path) -> None:
    found = mined(tmp_path, classes=["green", "blue"])
    assert {name: one.classes for name, one in found.items()} == {
        "a.png": ["green"],
        "b.png": ["blue"],
        "c.png": ["green"],
    }


def test_boxes_of_a_selected_class_are_those_of_the_whole_model(tmp_path: Path) -> None:
    whole, part = mined(tmp_path / "whole"), mined(tmp_path / "part", classes=["green"])
    for name in PICTURES:
        expected = [row for row in whole[name].rows if row["category"] == "green"]
        assert [(r["x"], r["y"], r["w"], r["h"], r["score"], r["category_id"]) for r in part[name].rows] == [
            (r["x"], r["y"], r["w"], r["h"], r["score"], r["category_id"]) for r in expected
        ]


def test_a_merged_class_is_found_by_the_most_probable_of_its_members(tmp_path: Path) -> None:
    found = mined(tmp_path, map={"red": "warm", "blue": "warm"}, classes=["warm"], scales=(1.0, 2.0))
    assert {name: (one.state, one.classes, one.boxes) for name, one in found.items()} == {
        "a.png": ("labelled", ["warm"], [LEFT]),
        "b.png": ("labelled", ["warm"], [MIDDLE]),
        "c.png": ("no_region", [], []),
    }


def test_an_adaptive_pyramid_keeps_the_chosen_member(tmp_path: Path) -> None:
    options: dict[str, Any] = {"map": {"red": "warm", "blue": "warm"}, "scales": (1.0, 1.5, 2.0), "class_cut": 0.0}
    found = mined(tmp_path, classes=["warm"], adaptive=0.99, **options)
    assert (found["a.png"].boxes, found["b.png"].boxes) == ([LEFT], [MIDDLE])


def test_labels_are_matched_after_renaming_and_those_of_other_classes_are_passed_over(tmp_path: Path) -> None:
    labels = {"a.png": ("rose", "green"), "b.png": ("blue",), "c.png": ()}
    found = mined(tmp_path, labels, classes=["rose"], map=["red=rose"])
    assert (found["a.png"].classes, found["a.png"].boxes) == (["rose"], [LEFT])
    assert (found["b.png"].state, found["c.png"].state) == ("no_region", "no_region")


def test_a_label_under_the_models_own_name_is_refused_with_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"does not know the class 'red' of .*labels.csv: .*'reddish'"):
        mined(tmp_path, {"a.png": ("red",)}, map=["red=reddish"])


def test_thresholds_are_given_by_the_new_names(tmp_path: Path) -> None:
    assert mined(tmp_path, map=["red=rose"], class_thresholds={"rose": 0.9})["a.png"].rows[0][
        "threshold"
    ] == pytest.approx(0.9)
    with pytest.raises(ModelError, match="'red' of class_thresholds"):
        mined(tmp_path / "second", map=["red=rose"], class_thresholds={"red": 0.9})


def test_the_runs_card_and_coco_file_have_the_selected_classes_only(tmp_path: Path) -> None:
    run = opened(tmp_path, PICTURES, None, classes=["rose"], map=["red=rose"])
    mine_shard(run, 0)
    summary = finish_mining(run)
    assert (summary.classes, summary.boxes) == (1, 1)
    assert read_card(run.model).classes == [{"id": 7, "name": "rose"}]
    assert '"categories":[{"supercategory":"","id":7,"name":"rose"}]' in run.coco.read_text().replace(" ", "")
    assert (run.record["config"]["classes"], run.record["config"]["map"]) == (["rose"], ["red=rose"])


def test_a_run_keeps_to_its_classes(tmp_path: Path) -> None:
    run = opened(tmp_path, PICTURES, None, classes=["red"])
    with pytest.raises(RunError, match="classes"):
        plan_mining(run.settings.model_copy(update={"classes": ("green",)}))
    assert plan_mining(run.settings).images == len(PICTURES)


def test_an_unknown_class_is_refused_and_leaves_the_folder_free(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="class 'gren' of --classes: did you mean 'green'"):
        opened(tmp_path, PICTURES, None, classes=["gren"])
    assert not (tmp_path / "run" / "run.json").exists()
    assert set(mined(tmp_path, dict.fromkeys(PICTURES, ALL))["a.png"].classes) == {"red", "green"}


def test_a_run_from_before_classes_could_be_selected_is_resumed(tmp_path: Path) -> None:
    run = opened(tmp_path, PICTURES, None)
    config = {name: value for name, value in run.record["config"].items() if name not in ("classes", "map")}
    run.update(config=config)
    assert plan_mining(run.settings).images == len(PICTURES)
