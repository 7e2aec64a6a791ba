"""`boxmine experiment`: variants of training and mining, compared on the same photos."""

import json
import os
from pathlib import Path

import pytest
import yaml

from flows.cli import run_command
from mining.synthetic import generate
from tests.making import list_tiny_backbone


@pytest.fixture
def recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    list_tiny_backbone(monkeypatch)
    generate(tmp_path / "photos", images=16, seed=3)
    values = {
        "out": "results",
        "corpora": {"made": {"images": "photos/images", "labels": "photos/labels.csv", "truth": "photos/truth.json"}},
        "baseline": "cam",
        "seeds": [0, 1],
        "pyramids": [[1], [1, 1.5]],
        "train": {
            "backbone": "tiny",
            "weights": "none",
            "freeze": False,
            "epochs": 1,
            "workers": 0,
            "validation_share": 0,
        },
        "variants": {
            "cam": {},
            "high": {"mine": {"threshold": 0.6}},
            "longer": {"train": {"epochs": 2}},
        },
    }
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(values, sort_keys=False))
    return path


def rows_of(recipe: Path) -> list[dict]:
    return json.loads((recipe.parent / "results" / "table.json").read_text())


def test_every_variant_is_measured_at_every_pyramid(recipe: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["experiment", str(recipe)]) == 0
    rows = rows_of(recipe)
    assert [(row["variant"], row["scales"]) for row in rows] == [
        (variant, scales) for variant in ("cam", "high", "longer") for scales in ([1.0], [1.0, 1.5])
    ]
    assert all(row["seeds"] == 2 and row["spreads"]["corloc"] is not None for row in rows)
    assert rows[0]["over_baseline"] is rows[0]["over_first_pyramid"] is None
    assert rows[3]["over_baseline"]["value"] == pytest.approx(rows[3]["means"]["corloc"] - rows[1]["means"]["corloc"])
    assert rows[3]["over_first_pyramid"]["value"] == pytest.approx(
        rows[3]["means"]["corloc"] - rows[2]["means"]["corloc"]
    )
    shown = capsys.readouterr().out
    assert "MaxBoxAccV2" in shown
    assert "longer" in shown
    assert (recipe.parent / "results" / "table.md").read_text().count("| made |") == len(rows)


def test_the_figures_are_those_that_the_commands_give(recipe: Path) -> None:
    assert run_command(["experiment", str(recipe), "--set", "seeds=[1]"]) == 0
    photos = recipe.parent / "photos"
    corpus = ["--images", str(photos / "images"), "--labels", str(photos / "labels.csv")]
    model, run = recipe.parent / "model", recipe.parent / "run"
    quick = [
        "--backbone",
        "tiny",
        "--weights",
        "none",
        "--no-freeze",
        "--epochs",
        "1",
        "--workers",
        "0",
        "--validation-share",
        "0",
        "--seed",
        "1",
    ]
    assert run_command(["train", *corpus, "--out", str(model), *quick]) == 0
    assert run_command(["mine", *corpus, "--model", str(model), "--out", str(run), "--scales", "1,1.5"]) == 0
    assert run_command(["score", str(run), "--truth", str(photos / "truth.json")]) == 0
    corloc = json.loads((run / "scores.json").read_text())["corloc"]
    means = rows_of(recipe)[1]["means"]
    assert means["corloc"] == corloc["value"]
    assert means["boxes_per_pair"] == corloc["boxes_per_pair"]


def test_one_training_serves_all_that_mine_it_differently(recipe: Path) -> None:
    assert run_command(["experiment", str(recipe)]) == 0
    assert len(list((recipe.parent / "results" / "made" / "models").iterdir())) == 4  # two seeds, two lengths


def test_what_is_measured_is_not_measured_again_unless_its_settings_change(recipe: Path) -> None:
    assert run_command(["experiment", str(recipe)]) == 0
    figures = sorted((recipe.parent / "results" / "made" / "figures").glob("*.json"))
    assert len(figures) == 12
    for path in figures:
        os.utime(path, (1, 1))
    assert run_command(["experiment", str(recipe), "--set", "variants.high.mine.threshold=0.7"]) == 0
    again = {path.name for path in figures if path.stat().st_mtime > 1}
    assert again == {path.name for path in figures if path.name.startswith("high-")}


def test_half_a_measurement_is_done_anew(recipe: Path) -> None:
    assert run_command(["experiment", str(recipe), "--set", "seeds=[0]"]) == 0
    first = rows_of(recipe)
    for path in (recipe.parent / "results" / "made" / "figures").glob("cam-*"):
        path.unlink()
    assert run_command(["experiment", str(recipe), "--set", "seeds=[0]"]) == 0
    assert [row["means"] for row in rows_of(recipe)] == [row["means"] for row in first]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ("baseline=cm", "did you mean 'cam'"),
        ("variants.high.mine.treshold=0.5", "threshold"),
        ("variants.high.train.localizer=camm", "cam"),
        ("variants.high.train.options.degree=2", "degree"),
        ("variants.high.mine.localizer=camm", "cam"),
        ("corpora={}", "corpora"),
        ("seeds=[-1]", "seeds"),
    ],
)
def test_a_recipe_that_cannot_be_is_refused_in_a_sentence(
    recipe: Path, capfd: pytest.CaptureFixture[str], change: str, told: str
) -> None:
    assert run_command(["experiment", str(recipe), "--set", change]) == 2
    assert told in " ".join(capfd.readouterr().err.split())
    assert not (recipe.parent / "results").exists()
