"""A staged version is shown by the status of the store and of the folder with its run."""

import json
from pathlib import Path

import pytest

from flows.cli.application import run_command
from tests.unit.engine.painting import BOX, scene
from tests.unit.label_store.project import LabelProject
from tests.unit.label_store.test_publish import red


@pytest.fixture
def staged(project: LabelProject) -> LabelProject:
    """A store with one version, and a second one that waits: its five new photos have no box."""
    for number in range(3):
        project.add_image(f"{number}.png", red(255 - number))
    project.run_job()
    for number in range(5):
        project.add_image(f"dark-{number}.png", scene((BOX, (0, 0, number))))
    assert project.run_job().state == "staged"
    return project


def status(source: Path, capsys: pytest.CaptureFixture[str]) -> tuple[list[dict[str, object]], str]:
    """The answer as JSON, and what a person reads."""
    assert run_command(["status", str(source), "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert run_command(["status", str(source)]) == 0
    shown = capsys.readouterr()
    return answer, shown.out + shown.err


def test_the_status_of_a_store_shows_a_staged_version_and_its_run(
    staged: LabelProject, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (run,) = sorted(staged.runs.glob("images-00002-*"))
    monkeypatch.chdir(staged.folder)
    versions, shown = status(Path("labels"), capsys)
    assert [one["version"] for one in versions] == [0], "a version that waits is none yet"
    waiting = versions[0]["waiting"]
    assert isinstance(waiting, dict)
    assert (waiting["runs"], waiting["images"], waiting["boxes"]) == ([str(run)], 8, 3)
    assert "A version of 'images' was staged at" in shown
    assert "max_no_box 1.000 (limit 0.500) did not pass" in shown
    assert f"Its new boxes are in {run}" in shown


def test_an_accepted_version_is_not_shown_as_staged(staged: LabelProject, capsys: pytest.CaptureFixture[str]) -> None:
    staged.run_job(accept=True)
    versions, shown = status(staged.store, capsys)
    assert [one["waiting"] for one in versions] == [None, None]
    assert "waits" not in shown


def test_a_staged_version_is_not_shown_once_another_machine_has_published(
    staged: LabelProject, capsys: pytest.CaptureFixture[str]
) -> None:
    last = staged.runs / ".images" / "last.json"
    record = json.loads(last.read_text())
    last.write_text(json.dumps({**record, "at": "2020-01-01T00:00:00+00:00"}))
    assert "waits" not in status(staged.store, capsys)[1]


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"state": "staged"}', '{"state": "staged", "gates": 1}'])
def test_a_damaged_record_of_the_last_job_does_not_stop_the_status(
    staged: LabelProject, content: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (staged.runs / ".images" / "last.json").write_text(content)
    assert "waits" not in status(staged.store, capsys)[1]


def test_the_status_of_a_folder_lists_its_runs(staged: LabelProject, capsys: pytest.CaptureFixture[str]) -> None:
    (staged.runs / "stray.txt").write_text("not a run")
    (staged.runs / "broken").mkdir()
    (staged.runs / "broken" / "run.json").write_text("{")
    runs, shown = status(staged.runs, capsys)
    assert [(run["state"], run["images"], run["done"], run["boxes"]) for run in runs] == [
        ("finished", 3, 3, 3), ("finished", 5, 5, 0), ("damaged", None, None, None),
    ]  # fmt: skip
    assert str(runs[1]["reason"]).startswith("staged, not published: max_no_box")
    assert "cannot be read as a run's record" in str(runs[2]["reason"])
    assert all(run["started"] and run["finished"] for run in runs[:2])
    assert "A version of 'images' was staged at" in shown
    above, _ = status(staged.folder, capsys)
    assert [run["name"] for run in above] == [f"runs/{run['name']}" for run in runs]


def test_the_status_of_a_folder_shows_a_staged_first_version(
    project: LabelProject, capsys: pytest.CaptureFixture[str]
) -> None:
    project.add_image("broken.png", b"no image")
    assert project.run_job().state == "staged"
    assert "A version of 'images' was staged at" in status(project.runs, capsys)[1]


def test_a_folder_without_runs_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["status", str(tmp_path)]) == 2
    assert "holds no run" in capsys.readouterr().err
    assert run_command(["status", str(tmp_path / "nowhere")]) == 2
    assert "neither a run directory, nor a label store, nor a folder of runs" in capsys.readouterr().err


def test_a_stopped_run_is_listed_with_its_reason(staged: LabelProject, capsys: pytest.CaptureFixture[str]) -> None:
    (run,) = sorted(staged.runs.glob("images-00001-*"))
    record = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps({**record, "state": "stopped", "failed": "the disk is full"}))
    runs, _ = status(staged.runs, capsys)
    assert [(run["state"], run["reason"]) for run in runs if run["state"] == "stopped"] == [
        ("stopped", "the disk is full")
    ]


# --- reports ---------------------------------------------------------------------------------------------------------


def test_a_store_can_be_reported_on_at_any_version(
    staged: LabelProject, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    staged.run_job(accept=True)
    monkeypatch.chdir(staged.folder)
    assert run_command(["report", "labels"]) == 0
    assert "The report is images@1.html." in capsys.readouterr().err
    page = (staged.folder / "images@1.html").read_text()
    assert "<h1>images@1</h1>" in page
    assert run_command(["report", "labels", "--as-of", "0", "--out", "first.html"]) == 0
    assert "<h1>images@0</h1>" in (staged.folder / "first.html").read_text()
    assert run_command(["report", "labels"]) == 0, "a page of its own is replaced"


def test_a_report_does_not_overwrite_foreign_files(staged: LabelProject, capsys: pytest.CaptureFixture[str]) -> None:
    foreign = staged.folder / "notes.html"
    foreign.write_text("mine")
    for out, why in ((foreign, "is not a report page of boxmine"), (staged.folder / "labels.csv", "ends in .html")):
        assert run_command(["report", str(staged.store), "--out", str(out)]) == 2
        assert why in capsys.readouterr().err
    assert foreign.read_text() == "mine"
    (run, *_) = sorted(staged.runs.glob("images-*"))
    assert run_command(["report", str(run), "--out", str(foreign)]) == 2
    assert "--out is for label stores" in capsys.readouterr().err
