"""The recipes that are shipped can be run as they are, once they are told where the photos are."""

from pathlib import Path

import pytest

from mining.config import RunSettings, parse, read_recipe
from mining.experiments import ExperimentSettings, cells
from mining.experiments.measuring import refuse_what_cannot_be

RECIPES = Path(__file__).parents[2] / "deployments" / "recipes"


@pytest.mark.parametrize("path", sorted((RECIPES / "ablations").glob("*.yaml")), ids=lambda path: path.stem)
def test_an_ablation_names_what_there_is(path: Path) -> None:
    settings = parse(ExperimentSettings, read_recipe(path))
    every = cells(settings)
    assert settings.baseline in settings.variants
    assert len({str(cell) for cell in every}) == len(every) == 6 * len(settings.variants)
    refuse_what_cannot_be(every)
    assert f"ablations/{path.name}" in path.read_text()  # its own command


def test_the_example_is_a_recipe() -> None:
    parse(RunSettings, read_recipe(RECIPES / "example.yaml"))
