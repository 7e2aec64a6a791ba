"""The examples of README.md, docs/ and docs/notebooks/ run as they stand, on a small generated corpus."""

import re
import shlex
import shutil
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from sybil.document import Document
from sybil.parsers.markdown import PythonCodeBlockParser

from flows.cli.application import run_command
from mining.synthetic import CLASSES, generate
from tests.factories import write_model

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
WITH_PYTHON = [page for page in PAGES if "```python" in page.read_text(encoding="utf-8")]
NOTEBOOK = ROOT / "docs" / "notebooks" / "quickstart.ipynb"
README_LINES = 150


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with what the examples expect: photos/, labels.csv, truth.json and models/."""
    generate(tmp_path / "corpus", images=8, seed=0, size=(96, 128))
    for name, target in (("images", "photos"), ("labels.csv", "labels.csv"), ("truth.json", "truth.json")):
        (tmp_path / "corpus" / name).rename(tmp_path / target)
    first = next((tmp_path / "photos").iterdir())
    (tmp_path / "photos" / "a.jpg").write_bytes(first.read_bytes())
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("page", WITH_PYTHON, ids=lambda page: str(page.relative_to(ROOT)))
def test_python_examples_run(page: Path, folder: Path) -> None:
    write_model(folder / "models" / "mine", CLASSES, objective="multi")
    text = page.read_text(encoding="utf-8").replace('out="models/mine")', 'out="models/fresh", epochs=1)')
    copy = folder / page.name
    copy.write_text(text, encoding="utf-8")
    examples = list(Document.parse(str(copy), PythonCodeBlockParser()).examples())
    assert examples
    for example in examples:
        example.evaluate()


def test_the_commands_of_the_readme_run(folder: Path) -> None:
    commands = [line for block in _bash_blocks(ROOT / "README.md") for line in block.splitlines()]
    assert [shlex.split(line)[1] for line in commands] == ["train", "mine", "score", "report", "export"]
    for line in commands:
        _, name, *options = shlex.split(line)
        assert run_command([name, *options, *(["--epochs", "1"] if name == "train" else [])]) == 0, line
    assert (folder / "runs" / "first" / "report" / "index.html").is_file()
    assert (folder / "detector-set" / "data.yaml").is_file()


@pytest.mark.slow
def test_the_commands_from_photos_to_a_detector_run(folder: Path) -> None:
    page = ROOT / "docs" / "guides" / "detector.md"
    generate(folder / "unseen", images=6, start=8, seed=0, size=(96, 128))
    for name, target in (("images", "test"), ("truth.json", "test.json")):
        (folder / "unseen" / name).rename(folder / target)
    shutil.copytree(folder / "test", folder / "new-photos")
    recipes = dict(
        re.findall(r"`(\w+\.yaml)`:\n\n```yaml\n(.*?)```", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    )
    for name, text in recipes.items():
        (folder / name).write_text(text)
    quick = ["detector.side=64", "detector.epochs=1", "detector.channels=64", "detector.workers=0"]
    more = {
        "bootstrap": [*quick, "train.epochs=1", "train.workers=0", "mine.scales=[1]"],
        "prove": [*quick, "resamples=100"],
    }
    commands = [shlex.split(line) for block in _bash_blocks(page) for line in block.splitlines()]
    assert [command[1] for command in commands] == ["bootstrap", "prove", "export", "mine", "export-model"]
    for _, name, *options in commands:
        changes = [part for change in more.get(name, []) for part in ("--set", change)]
        assert run_command([name, *options, *changes]) == 0, name
    assert (folder / "runs" / "detector" / "round-1" / "report" / "index.html").is_file()
    assert (folder / "runs" / "proof" / "proof.html").is_file()
    assert (folder / "detector-set" / "configs").is_dir()
    assert (folder / "detector.onnx").is_file()


def _bash_blocks(page: Path) -> list[str]:
    return re.findall(r"```bash\n(.*?)```", page.read_text(encoding="utf-8"), flags=re.DOTALL)


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= README_LINES


@pytest.mark.slow
def test_the_notebook_runs(tmp_path: Path) -> None:
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    NotebookClient(notebook, timeout=540, resources={"metadata": {"path": str(tmp_path)}}).execute()


def test_the_notebook_is_stored_without_outputs() -> None:
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    assert not any(cell.get("outputs") for cell in notebook.cells)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_to_files_lead_somewhere(page: Path) -> None:
    generated = {ROOT / "docs" / "methods", ROOT / "docs" / "reference"}
    for target in re.findall(r"\]\(([^)#\s]+)", page.read_text(encoding="utf-8")):
        if "://" not in target and (path := (page.parent / target).resolve()).parent not in generated:
            assert path.exists(), f"{page.name}: {target}"
