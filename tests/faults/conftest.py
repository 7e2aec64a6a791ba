"""A corpus to mine, an undisturbed run of it that other runs are compared with, and a label project."""

from pathlib import Path

import pytest

from flows.cli.application import run_command
from mining.synthetic import generate
from tests.unit.engine.painting import list_painted
from tests.unit.label_store.project import LabelProject


def mine_arguments(corpus: Path, out: Path) -> list[str]:
    """Arguments of a `boxmine mine` that takes seconds and writes many parts."""
    return [
        "mine", "--images", f"{corpus}/images", "--model", "pretrained:efficientnet_lite0", "--out", str(out),
        "--class-cut", "0.05", "--shard-size", "2", "--batch-size", "2", "--scales", "1,1.5",
    ]  # fmt: skip


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """24 generated images with labels."""
    folder = tmp_path_factory.mktemp("corpus")
    generate(folder, images=24, seed=5)
    return folder


@pytest.fixture(scope="session")
def undisturbed(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of the corpus that nothing interrupted."""
    run = tmp_path_factory.mktemp("undisturbed") / "run"
    assert run_command(mine_arguments(corpus, run)) == 0
    return run


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LabelProject:
    list_painted(monkeypatch)
    return LabelProject(tmp_path)
