"""Examples in docstrings give the results that they show."""

import doctest
from importlib import import_module
from pathlib import Path

import pytest

import boxmine
from mining.config import MineSettings
from mining.runs.mining_job import mine
from tests.factories import write_model, write_photos

ROOT = Path(__file__).parents[2]
FILES = sorted(path for folder in ("boxmine", "mining", "tasks", "flows") for path in (ROOT / folder).rglob("*.py"))
WITH_EXAMPLES = [".".join(path.relative_to(ROOT).with_suffix("").parts) for path in FILES if ">>> " in path.read_text()]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that the examples assume: photos, a model and a finished run."""
    folder = tmp_path_factory.mktemp("examples")
    write_photos(folder / "photos", ["a.jpg", "b.jpg"])
    write_model(folder / "models" / "mine", ("cat", "dog"))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        mine(MineSettings(images="photos", model="models/mine", out="runs/first"))
    return folder


@pytest.mark.parametrize("name", WITH_EXAMPLES)
def test_the_examples_of_a_module_hold(name: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    result = doctest.testmod(import_module(name), extraglobs={"boxmine": boxmine})
    assert result.attempted > 0
    assert result.failed == 0
