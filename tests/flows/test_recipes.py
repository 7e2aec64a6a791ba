"""The shipped recipes of experiments run unchanged once they are given images."""

import json
from pathlib import Path

import pytest

from flows.cli.application import run_command
from mining.config import RunSettings, parse
from mining.config.recipes import read_recipe
from mining.experiments import ExperimentSettings, make_cells
from mining.experiments.measurement import validate_cells
from mining.localizers.registry import LOCALIZERS
from mining.synthetic import generate

RECIPES = Path(__file__).parents[2] / "deployments" / "recipes"


EXPERIMENTS = [RECIPES / "localizers.yaml", *sorted((RECIPES / "ablations").glob("*.yaml"))]


@pytest.mark.parametrize("path", EXPERIMENTS, ids=lambda path: path.stem)
def test_an_experiment_names_existing_localizers_and_options(path: Path) -> None:
    settings = parse(ExperimentSettings, read_recipe(path))
    all_cells = make_cells(settings)
    assert settings.baseline in settings.variants
    assert (
        len({str(cell) for cell in all_cells}) == len(all_cells) == 3 * len(settings.pyramids) * len(settings.variants)
    )
    validate_cells(all_cells)
    assert str(path.relative_to(RECIPES.parents[1])) in path.read_text(), "its own command"


@pytest.mark.slow
@pytest.mark.parametrize("path", EXPERIMENTS, ids=lambda path: path.stem)
def test_an_experiment_runs_and_prints_its_table(
    path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photos = tmp_path / "photos"
    generate(photos, images=8, seed=5)
    corpus = {
        "images": str(photos / "images"), "labels": str(photos / "labels.csv"), "truth": str(photos / "truth.json"),
    }  # fmt: skip
    quick = {
        "backbone": "mobilenet_v2", "weights": "none", "freeze": False, "input_size": 64, "epochs": 2,
        "validation_share": 0, "workers": 0, "accelerator": "cpu",
    }  # fmt: skip
    changes = [f"corpora={json.dumps({'made': corpus})}", "seeds=[0]", "pyramids=[[1]]"]
    changes += [f"train.{name}={json.dumps(value)}" for name, value in quick.items()]
    settings = parse(ExperimentSettings, read_recipe(path))
    changes += [
        f"variants.{name}.train.epochs=2" for name, variant in settings.variants.items() if "epochs" in variant.train
    ]
    options = [text for change in changes for text in ("--set", change)]
    assert run_command(["experiment", str(path), "--out", str(tmp_path / "out"), *options]) == 0
    stdout = capsys.readouterr().out
    assert all(name in stdout for name in settings.variants)


def test_every_localizer_is_compared() -> None:
    settings = parse(ExperimentSettings, read_recipe(RECIPES / "localizers.yaml"))
    compared = {(cell.mine.localizer or cell.train.localizer) for cell in make_cells(settings)}
    assert compared == set(LOCALIZERS)


def test_the_example_recipe_is_valid() -> None:
    parse(RunSettings, read_recipe(RECIPES / "example.yaml"))
