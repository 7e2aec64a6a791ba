"""The report of a version of a label store."""

from pathlib import Path

import pytest
from deltalake import DeltaTable

from flows.cli.application import run_command
from mining.label_store.reading import choice_before
from mining.label_store.settings import VersionChoice
from mining.label_store.version_report import report_of_version
from tests.unit.label_store.project import GATES_OFF, LabelProject
from tests.unit.label_store.test_publish import red


@pytest.fixture
def project_of_two_versions(project: LabelProject) -> LabelProject:
    project.add_image("a.png", red(255))
    project.run_job(gates=GATES_OFF)
    project.add_image("b.png", red(250))
    project.run_job(gates=GATES_OFF)
    return project


def test_a_version_is_compared_with_the_one_before_it(project_of_two_versions: LabelProject, tmp_path: Path) -> None:
    store = str(project_of_two_versions.store)
    page, note = report_of_version(store, VersionChoice(), tmp_path / "page.html")
    text = page.read_text(encoding="utf-8")
    assert not note
    assert "@0</h2>" in text
    assert "1 box on 1 image. Now: 2 boxes on 2 images." in " ".join(text.split())
    assert "Settings that differ" not in text
    page, _ = report_of_version(store, VersionChoice("0"), tmp_path / "first.html")
    assert 'id="drift"' not in page.read_text(encoding="utf-8")


def test_a_version_before_that_is_gone_is_noted(project_of_two_versions: LabelProject, tmp_path: Path) -> None:
    project = project_of_two_versions
    project.delete_image("b.png")
    project.run_job(gates=GATES_OFF)
    store = str(project.store)
    before = choice_before(store, VersionChoice())
    assert before is not None
    assert before.as_of == "1"
    current = {Path(uri).name for uri in DeltaTable(project.store).file_uris()}
    older = [file for file in project.store.rglob("*.parquet") if file.name not in current]
    assert older
    for file in older:
        file.unlink()
    page, note = report_of_version(store, VersionChoice(), tmp_path / "page.html")
    assert note.startswith("The report is not compared with version 1, which cannot be read: ")
    assert 'id="drift"' not in page.read_text(encoding="utf-8")


def test_a_store_takes_no_other_run_to_compare_with(
    project_of_two_versions: LabelProject, capsys: pytest.CaptureFixture[str]
) -> None:
    store = str(project_of_two_versions.store)
    assert run_command(["report", store, "--against", "runs/first"]) == 2
    assert "compared with the one before it. Leave out --against" in " ".join(capsys.readouterr().err.split())
