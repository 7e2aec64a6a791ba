"""The recipes that are shipped can be run as they are, once they are told where the photos are."""

from pathlib import Path

import pytest

from mining.config import RunSettings, parse, read_recipe
from mining.experiments import ExperimentSettings, cells
from mining.experiments.measuring import refuse_what_cannot_be
from mining.localizers import LOCALIZERS

RECIPES = Path(__file__).parents[2] / "deployments" / "recipes"


EXPERIMENTS = [RECIPES / "localizers.yaml", *sorted((RECIPES / "ablations").glob("*.yaml"))]


@pytest.mark.parametrize("path", EXPERIMENTS, ids=lambda path: path.stem)
def test_an_experiment_names_what_there_is(path: Path) -> None:
    settings = parse(ExperimentSettings, read_recipe(path))
    every = cells(settings)
    assert settings.baseline in settings.variants
    assert len({str(cell) for cell in every}) == len(every) == 6 * len(settings.variants)
    refuse_what_cannot_be(every)
    assert str(path.relative_to(RECIPES.parents[1])) in path.read_text(), "its own command"


def test_every_localizer_is_compared() -> None:
    settings = parse(ExperimentSettings, read_recipe(RECIPES / "localizers.yaml"))
    compared = {(cell.mine.localizer or cell.train.localizer) for cell in cells(settings)}
    assert compared == set(LOCALIZERS)


def test_the_example_is_a_recipe() -> None:
    parse(RunSettings, read_recipe(RECIPES / "example.yaml"))
