"""Thresholds selected when another run was scored (`thresholds_from`)."""

import json
from pathlib import Path

import pytest

from mining.config import MineSettings, RunSettings, parse
from mining.config.recipes import read_recipe
from mining.errors import RunError
from mining.runs.inputs import resolve_thresholds
from mining.storage.integrity import with_digest

MINE = {"images": "photos", "model": "pretrained:efficientnet_lite0", "out": "run"}
CHOSEN = {"chosen": {"threshold": 0.36}, "per_class": {"thresholds": {"cat": 0.3, "dog": 0.5}}}


def scored_run(folder: Path, thresholds: object) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "scores.json").write_text(json.dumps({"thresholds": thresholds}))
    return folder


def test_thresholds_of_a_scored_run_are_resolved_once(tmp_path: Path) -> None:
    run = scored_run(tmp_path / "run", CHOSEN)
    settings = resolve_thresholds(parse(MineSettings, {**MINE, "thresholds_from": str(run)}))
    assert (settings.threshold, settings.class_thresholds) == (0.36, {"cat": 0.3, "dog": 0.5})
    scored_run(tmp_path / "run", {**CHOSEN, "chosen": {"threshold": 0.9}})
    assert MineSettings.model_validate_json(settings.model_dump_json()) == settings
    assert resolve_thresholds(settings) == settings


def test_an_explicit_threshold_applies_to_classes_missing_from_the_scored_run(tmp_path: Path) -> None:
    run = scored_run(tmp_path / "run", CHOSEN)
    settings = resolve_thresholds(parse(MineSettings, {**MINE, "thresholds_from": run, "threshold": 0.2}))
    assert (settings.threshold, settings.class_thresholds) == (0.2, {"cat": 0.3, "dog": 0.5})


@pytest.mark.parametrize("thresholds", [None, {}, {"chosen": {"threshold": 0.3}}, 5])
def test_a_run_without_chosen_thresholds_is_rejected(tmp_path: Path, thresholds: object) -> None:
    run = scored_run(tmp_path / "run", thresholds)
    with pytest.raises(RunError, match=r"has no scores\.json with chosen thresholds; mine it with curves"):
        resolve_thresholds(parse(MineSettings, {**MINE, "thresholds_from": run}))


def test_a_missing_run_is_rejected(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="boxmine score"):
        resolve_thresholds(parse(MineSettings, {**MINE, "thresholds_from": tmp_path / "nowhere"}))


def test_damaged_scores_are_rejected(tmp_path: Path) -> None:
    run = scored_run(tmp_path / "run", CHOSEN)
    record = with_digest({"thresholds": CHOSEN})
    (run / "scores.json").write_text(json.dumps({**record, "corloc": 1}))
    with pytest.raises(RunError, match=r"scores\.json is damaged"):
        resolve_thresholds(parse(MineSettings, {**MINE, "thresholds_from": run}))


def test_the_scored_run_path_in_a_recipe_is_relative_to_the_recipe(tmp_path: Path) -> None:
    scored_run(tmp_path / "earlier", CHOSEN)
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("out: run\ncorpus:\n  images: photos\nmine:\n  thresholds_from: earlier\n")
    settings = parse(RunSettings, read_recipe(recipe))
    assert resolve_thresholds(settings.mine).class_thresholds == {"cat": 0.3, "dog": 0.5}


def test_settings_without_a_scored_run_are_unchanged() -> None:
    settings = parse(MineSettings, {**MINE, "class_thresholds": {"cat": 0.2}})
    assert resolve_thresholds(settings) is settings
