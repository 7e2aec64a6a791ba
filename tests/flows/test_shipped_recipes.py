"""The recipes of deployments run as they are shipped, on the images that their comments name."""

import re
import shlex
import shutil
from pathlib import Path

import pytest
import yaml

from flows.cli.application import run_command
from mining.config import RetrainSettings, RunSettings, Settings, parse
from mining.config.recipes import read_recipe
from mining.label_store.settings import Gates, LabelSettings
from mining.runs.run import Run
from mining.synthetic import generate

RECIPES = Path(__file__).parents[2] / "deployments" / "recipes"
OPTION = re.compile(r"^(\s*)# ( *[a-z_]+:( .*)?)$", re.MULTILINE)
QUICK = [
    "--set",
    "train.epochs=1",
    "--set",
    "train.workers=0",
    "--set",
    "mine.scales=[1]",
    "--set",
    "train.input_size=64",
]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the recipes in a new project, which is the working directory."""
    shutil.copytree(RECIPES, tmp_path / "deployments" / "recipes")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def find_commands(recipe: Path) -> list[list[str]]:
    """Find the commands in a recipe's comments, split into arguments."""
    text = recipe.read_text().replace("\\\n#", " ")
    return [shlex.split(line)[1:] for line in re.findall(r"^#\s+(boxmine .*)$", text, re.MULTILINE)]


def test_the_example_runs_on_the_images_of_the_deployments(project: Path) -> None:
    generate(project / "photos", images=8)
    command, _ = find_commands(project / "deployments" / "recipes" / "example.yaml")
    assert run_command([*command, *QUICK]) == 0
    run = Run(project / "runs" / "example")
    assert run.require_finished()["counts"]["images"] == 8
    assert run.report.is_file()


@pytest.mark.slow
def test_the_example_runs_on_the_images_of_the_demo(project: Path) -> None:
    generate(project / "runs" / "demo" / "corpus", images=8)
    _, command = find_commands(project / "deployments" / "recipes" / "example.yaml")
    assert run_command([*command, *QUICK]) == 0
    assert Run(project / "runs" / "example").scores.is_file()


@pytest.mark.parametrize(
    ("name", "kind"), [("example", RunSettings), ("label", LabelSettings), ("retrain", RetrainSettings)]
)
def test_options_in_comments_are_valid(name: str, kind: type[Settings], project: Path) -> None:
    recipe = project / "deployments" / "recipes" / f"{name}.yaml"
    before = yaml.safe_load(recipe.read_text())
    recipe.write_text(OPTION.sub(r"\1\2", recipe.read_text()))
    values = read_recipe(recipe)
    assert set(values) > set(before)
    parse(kind, values)


def test_the_label_recipe_shows_the_gates_with_their_defaults() -> None:
    shown = yaml.safe_load((RECIPES / "label.yaml").read_text())["gates"]
    defaults = Gates().model_dump()
    assert shown == {name: defaults[name] for name in shown}
    assert set(shown) == set(defaults) - {"min_corloc", "min_precision"}  # off by default, in comments


@pytest.mark.parametrize("path", sorted(RECIPES.rglob("*.yaml")), ids=lambda path: path.stem)
def test_commands_in_comments_name_their_recipe_and_valid_settings(path: Path) -> None:
    for command, recipe, *options in find_commands(path):
        if command == "score":  # of a run
            continue
        assert RECIPES.parents[1] / recipe == path
        changes = dict(option.split("=", 1) for option in options if "=" in option)
        read_recipe(path, changes)
