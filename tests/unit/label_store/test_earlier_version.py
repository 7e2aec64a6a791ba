"""A label store of an earlier version, whose boxes had fewer columns, is carried on."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from mining.label_store.reading import export_as_run
from mining.label_store.settings import VersionChoice
from mining.runs.run import Run
from tests.unit.engine.painting import BOX, GREEN, list_painted, scene
from tests.unit.label_store.earlier_version import LATER_COLUMNS, PLAIN
from tests.unit.label_store.project import LabelProject


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Return the folder in which the earlier version labelled two images, and a copy of it as it was then."""
    folder = tmp_path_factory.mktemp("earlier") / "project"
    folder.mkdir()
    command = [sys.executable, "-m", "tests.unit.label_store.earlier_version", str(folder)]
    done = subprocess.run(command, cwd=Path(__file__).parents[3], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return folder, shutil.copytree(folder, folder.with_name("copy"))


@pytest.fixture
def project(published: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> LabelProject:
    """Two images, labelled by the earlier version."""
    folder, copy = published
    shutil.rmtree(folder)
    shutil.copytree(copy, folder)
    list_painted(monkeypatch)
    return LabelProject(folder)


def test_its_rows_are_kept_and_new_rows_have_the_later_columns(project: LabelProject, tmp_path: Path) -> None:
    assert not set(LATER_COLUMNS) & project.rows()[0].keys()
    before = project.comparable_rows()
    project.add_image("c.png", scene((BOX, GREEN)))
    project.run_job(mine=PLAIN)
    rows = project.rows_by_name()
    assert project.mined_images(rows["c.png"][0]["run"]) == ["c.png"]
    assert {name: rows["a.png"][0][name] for name in LATER_COLUMNS} == dict.fromkeys(LATER_COLUMNS)
    assert (rows["c.png"][0]["refinement"], rows["c.png"][0]["is_part"]) == ("none", False)
    assert {name: project.comparable_rows()[name] for name in before} == before
    for version, boxes in (("0", 2), (str(project.latest_version()), 3)):
        export_as_run(str(project.store), VersionChoice(as_of=version), tmp_path / version)
        table = Run(tmp_path / version).read_annotations()
        assert (len(table), set(LATER_COLUMNS) <= set(table.column_names)) == (boxes, True)


def test_with_the_present_defaults_all_images_are_labelled_again(project: LabelProject) -> None:
    before = {row["run"] for row in project.rows()}
    project.run_job(mine={"refine": "walk"})
    rows = project.rows()
    assert {row["refinement"] for row in rows} == {"walk"}
    assert not before & {row["run"] for row in rows}
