"""A missing label store is an error; a new one is created only on request."""

import json
import shutil
from pathlib import Path

import pytest

from flows.cli.application import run_command
from mining.errors import InputError, StoreMissingError
from mining.label_store import publish
from mining.label_store.job import lock_job, plan_labels
from mining.label_store.publish import publish_labels
from mining.runs.run import Run
from tests.unit.engine.painting import BOX, scene
from tests.unit.label_store.project import GATES_OFF, LabelProject


@pytest.fixture
def published(project: LabelProject) -> LabelProject:
    """One version, of one photo."""
    project.add_image("a.png", scene((BOX, (255, 0, 0))))
    project.run_job()
    return project


def records(project: LabelProject) -> list[dict[str, object]]:
    return [Run(path.parent).record for path in sorted(project.runs.glob("images-*/run.json"))]


def test_a_run_records_where_and_as_which_version_it_was_published(published: LabelProject) -> None:
    published.add_image("b.png", scene((BOX, (0, 255, 0))))
    published.run_job(gates=GATES_OFF)
    made = [record["published"] for record in records(published)]
    assert [[one["version"] for one in each] for each in made] == [[0], [1]]  # type: ignore[attr-defined]
    assert {one["store"] for each in made for one in each} == {str(published.store)}  # type: ignore[attr-defined]
    assert all(record["publishing"] is None for record in records(published))


@pytest.mark.parametrize("empty", [False, True])
def test_a_job_stops_if_the_store_it_published_to_is_missing(
    published: LabelProject, tmp_path: Path, empty: bool
) -> None:
    published.store.rename(tmp_path / "unmounted")
    if empty:
        published.store.mkdir()
    published.add_image("b.png", scene((BOX, (0, 255, 0))))
    with pytest.raises(StoreMissingError, match=r"holds no labels of 'images'.*version 0 of .*--new-store") as caught:
        published.run_job(gates=GATES_OFF)
    assert caught.value.exit_code == 5
    assert len(records(published)) == 1, "nothing was mined"
    assert published.store.exists() == empty
    assert not empty or not list(published.store.iterdir())
    published.store.rmdir() if empty else None
    (tmp_path / "unmounted").rename(published.store)
    assert published.run_job(gates=GATES_OFF).version == 1


def test_a_mistyped_address_creates_no_store(published: LabelProject, tmp_path: Path) -> None:
    with pytest.raises(StoreMissingError, match=r"lables holds no labels"):
        published.run_job(store=str(tmp_path / "lables"))
    assert not (tmp_path / "lables").exists()


def test_the_command_ends_with_exit_code_5_and_a_message(
    published: LabelProject, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mining.preflight.check", lambda _: None)  # knows no localizer of tests
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(published.settings().model_dump_json(exclude={"gates": True}))
    shutil.rmtree(published.store)
    assert run_command(["label", str(recipe)]) == 5
    said = " ".join(capsys.readouterr().err.split())
    assert "boxmine: " in said
    assert "mount it or correct `store`" in said
    assert run_command(["clean", str(recipe)]) == 2
    assert "nothing was deleted" in " ".join(capsys.readouterr().err.split())


def test_a_new_store_is_created_on_request_without_mining_again(published: LabelProject) -> None:
    shutil.rmtree(published.store)
    made = published.run_job(new_store=True)
    assert (made.state, made.version, made.images) == ("published", 0, 1)
    assert len(records(published)) == 1
    assert published.run_job().state == "unchanged"


def test_a_store_that_disappears_during_mining_is_noticed_before_publishing(
    published: LabelProject,
) -> None:
    published.add_image("b.png", scene((BOX, (0, 255, 0))))
    settings = published.settings(gates=GATES_OFF)
    with lock_job(settings):
        plan_labels(settings)
        shutil.rmtree(published.store)
        with pytest.raises(StoreMissingError):
            publish_labels(settings)
    assert not published.store.exists()


def test_a_store_without_the_corpus_counts_as_missing(published: LabelProject, tmp_path: Path) -> None:
    other = str(tmp_path / "other")
    published.run_job(name="others", store=other)
    with pytest.raises(StoreMissingError):
        published.run_job(store=other)
    assert published.run_job(name="others", store=other).state == "unchanged"


def test_a_second_corpus_can_be_added_to_a_store(published: LabelProject) -> None:
    assert published.run_job(name="others").version == 1


def test_after_a_staged_first_job_no_store_is_missing(project: LabelProject) -> None:
    for number in range(9):
        project.add_image(f"dark-{number}.png", scene((BOX, (0, 0, number))))
    assert project.run_job(gates={"max_no_box": 0.1}, keep_runs=1).state == "staged"
    assert project.run_job(gates={"max_no_box": 0.1}).state == "staged"
    assert project.run_job(accept=True).version == 0


def test_a_job_killed_between_publishing_and_recording_records_later(
    project: LabelProject, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.add_image("a.png", scene((BOX, (255, 0, 0))))

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(publish, "record_publication", killed)
        project.run_job()
    assert [record.get("published") for record in records(project)] == [None]
    assert project.run_job().state == "unchanged"
    assert [one["version"] for one in records(project)[0]["published"]] == [0]  # type: ignore[attr-defined]


def test_publications_of_earlier_versions_are_known_from_the_last_summary(published: LabelProject) -> None:
    last = published.runs / ".images" / "last.json"
    record = json.loads(last.read_text())
    del record["published"]
    last.write_text(json.dumps(record))
    for run in published.runs.glob("images-*"):
        Run(run).update(published=[])
    shutil.rmtree(published.store)
    with pytest.raises(StoreMissingError, match="version 0 of"):
        published.run_job()


@pytest.mark.parametrize("where", ["store", "work"])
def test_a_folder_with_foreign_files_becomes_neither_a_store_nor_a_work_folder(
    project: LabelProject, where: str
) -> None:
    project.add_image("a.png", scene((BOX, (255, 0, 0))))
    folder = project.store if where == "store" else project.runs / ".images"
    folder.mkdir(parents=True)
    (folder / "thesis.tex").write_text("ten years of work")
    with pytest.raises(InputError, match=r"holds other things \(e\.g\. 'thesis\.tex'\)"):
        project.run_job()
    assert [path.name for path in folder.iterdir()] == ["thesis.tex"]
