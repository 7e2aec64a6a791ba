"""`boxmine clean` deletes unpublished runs and leftovers, and nothing else."""

import os
import shutil
import time
from pathlib import Path
from uuid import uuid4

import pytest
from deltalake import DeltaTable

from mining.errors import InputError
from mining.label_store import cleanup
from mining.label_store.cleanup import clean
from mining.runs.run import Run
from mining.storage.ownership import temporary_path
from tests.unit.engine.painting import BOX, scene
from tests.unit.label_store.project import GATES_OFF, LabelProject


def names(project: LabelProject) -> set[str]:
    return {path.name for path in project.runs.glob("images-*")}


def stage_two(project: LabelProject) -> set[str]:
    """Two runs whose boxes a gate keeps back; gives their names."""
    before = names(project)
    for number in range(2):
        for position in range(9):
            project.add_image(f"dark-{number}-{position}.png", scene((BOX, (0, 0, 9 * number + position))))
        assert project.run_job(gates={"max_no_box": 0.1}).state == "staged"
    return names(project) - before


def test_unpublished_runs_are_deleted_and_published_runs_are_kept(project: LabelProject) -> None:
    project.add_image("a.png", scene((BOX, (255, 0, 0))))
    published = set(project.run_job().runs)
    staged = stage_two(project)
    settings = project.settings()
    would = clean(settings, 0, dry_run=True).deleted
    assert {os.path.basename(one.path) for one in would} == staged
    assert all(one.size > 0 for one in would)
    assert names(project) == published | staged
    assert [os.path.basename(one.path) for one in clean(settings, 1).deleted] == [min(staged)]
    clean(settings, 0)
    assert names(project) == published
    assert len(project.rows_by_name()) == 1
    assert project.run_job(accept=True).images == 19, "what is gone is mined again"


def test_a_recipe_can_ask_for_cleaning(project: LabelProject) -> None:
    project.add_image("a.png", scene((BOX, (255, 0, 0))))
    published = set(project.run_job().runs)
    stage_two(project)
    assert project.run_job(gates={"max_no_box": 0.1}, keep_runs=1).state == "staged"
    assert len(names(project) - published) == 1


def test_leftovers_of_killed_processes_are_deleted_and_all_versions_are_kept(project: LabelProject) -> None:
    for night in range(3):
        project.add_image(f"{night}.png", scene((BOX, (255 - night, 0, 0))))
        project.run_job(gates=GATES_OFF)
    before = [project.rows(version) for version in range(3)]
    data = next(project.store.glob("bucket=*/*.parquet"))
    orphan, fresh = (data.with_name(f"part-{uuid4()}.parquet") for _ in range(2))
    earlier = data.with_name(f"part-00000-{uuid4()}-c000.zstd.parquet")  # as earlier versions named them
    for path in (orphan, earlier, fresh):
        shutil.copy(data, path)
    long_ago = time.time() - 3 * 24 * 3600
    for path in (orphan, earlier):
        os.utime(path, (long_ago, long_ago))
    run = next(project.runs.glob("images-00001-*"))
    left = temporary_path(run / "parts" / "part-00000.parquet")
    left.write_bytes(b"half")
    os.utime(left, (long_ago, long_ago))
    found = {os.path.basename(one.path) for one in clean(project.settings(), 3).deleted}
    assert found == {orphan.name, earlier.name, left.name}
    assert not orphan.exists()
    assert fresh.exists(), "it may be of a job that is about to publish"
    assert [project.rows(version) for version in range(3)] == before
    assert project.rows() == before[-1]
    versions = DeltaTable(project.store).version()
    assert clean(project.settings(), 3).deleted == []
    assert DeltaTable(project.store).version() == versions, "where nothing is cleaned nothing is written"
    assert project.run_job(gates=GATES_OFF).state == "unchanged"


def test_runs_of_a_corpus_with_a_longer_name_are_not_touched(project: LabelProject) -> None:
    project.add_image("a.png", scene((BOX, (255, 0, 0))))
    theirs = project.run_job(name="images-2").runs
    own = project.run_job(name="images").runs
    assert theirs != own
    assert clean(project.settings(name="images"), 0).deleted == []
    assert all((project.runs / run).is_dir() for run in [*own, *theirs])
    project.add_image("b.png", scene((BOX, (250, 0, 0))))
    assert project.run_job(name="images").runs[0].startswith("images-00002-")


# --- what is not its own ---------------------------------------------------------------------------------------------


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def refuses_to_clean(project: LabelProject, **changes: str) -> bool:
    """Whether nothing is deleted, and a sentence says so."""
    before = contents(project.runs)
    with pytest.raises(InputError, match=r"holds no labels of 'images'.*nothing was deleted"):
        clean(project.settings(**changes), 0)
    return contents(project.runs) == before


def test_nothing_is_deleted_if_the_store_is_missing(project: LabelProject, tmp_path: Path) -> None:
    project.add_image("a.png", scene((BOX, (255, 0, 0))))
    project.run_job()
    stage_two(project)
    assert refuses_to_clean(project, store=str(tmp_path / "lables")), "a mistyped address"
    project.store.rename(tmp_path / "elsewhere")
    assert refuses_to_clean(project), "a store that is not mounted"
    project.store.mkdir()
    assert refuses_to_clean(project), "the folder that it is mounted at"
    assert not (tmp_path / "lables").exists()


def test_nothing_is_deleted_if_the_store_holds_only_another_corpus(project: LabelProject, tmp_path: Path) -> None:
    project.add_image("a.png", scene((BOX, (255, 0, 0))))
    project.run_job()
    project.run_job(name="others", store=str(tmp_path / "other"))
    assert refuses_to_clean(project, store=str(tmp_path / "other"))


def test_runs_of_two_stores_in_one_folder_are_kept_apart(project: LabelProject, tmp_path: Path) -> None:
    project.add_image("a.png", scene((BOX, (255, 0, 0))))
    project.run_job()
    stage_two(project)
    before = contents(project.runs)
    other = str(tmp_path / "other")
    project.run_job(new_store=True, store=other, gates=GATES_OFF)
    kept = {
        name: content for name, content in contents(project.runs).items() if name in before and "run.json" not in name
    }
    cleaned = clean(project.settings(store=other), 0)
    assert cleaned.deleted == []
    assert {name: content for name, content in contents(project.runs).items() if name in kept} == kept


def test_a_published_run_is_kept_if_the_store_does_not_list_it(project: LabelProject, tmp_path: Path) -> None:
    project.add_image("a.png", scene((BOX, (255, 0, 0))))
    project.run_job()
    shutil.copytree(project.store, tmp_path / "backup")
    project.add_image("b.png", scene((BOX, (0, 255, 0))))
    (published,) = project.run_job(gates=GATES_OFF).runs
    shutil.rmtree(project.store)
    (tmp_path / "backup").rename(project.store)
    cleaned = clean(project.settings(), 0)
    assert (cleaned.deleted, len(cleaned.notes)) == ([], 1)
    assert (project.runs / published).is_dir()


def test_a_moved_store_is_recognized(project: LabelProject, tmp_path: Path) -> None:
    project.add_image("a.png", scene((BOX, (255, 0, 0))))
    project.run_job()
    staged = stage_two(project)
    project.store.rename(tmp_path / "moved")
    moved = project.settings(store=str(tmp_path / "moved"))
    assert {os.path.basename(one.path) for one in clean(moved, 0).deleted} == staged


def test_runs_without_a_recorded_store_are_kept(project: LabelProject) -> None:
    project.add_image("a.png", scene((BOX, (255, 0, 0))))
    project.run_job()
    staged = stage_two(project)
    for name in staged:
        Run(project.runs / name).update(label_job=None)
    cleaned = clean(project.settings(), 0)
    assert cleaned.deleted == []
    assert cleaned.notes[0].startswith("2 runs that this store does not list are kept")


def test_foreign_files_in_the_store_and_beside_the_runs_are_kept(project: LabelProject) -> None:
    project.add_image("a.png", scene((BOX, (255, 0, 0))))
    (run,) = project.run_job().runs
    foreign = [
        project.store / "README.txt", project.store / "notes" / "part-00000.parquet", project.store / "bucket=0" / "own.parquet",
        project.runs / ".tmp-a" / "x", project.runs / ".images" / ".tmp-b", project.runs / run / ".tmp-c",
        project.runs / run / "notes" / ".tmp-d", project.runs / "images-2024-photos" / ".keep",
    ]  # fmt: skip
    long_ago = time.time() - 3 * 24 * 3600
    for path in foreign:
        path.parent.mkdir(exist_ok=True)
        path.write_text("somebody's")
        os.utime(path, (long_ago, long_ago))
    (project.runs / "images-2024-empty").mkdir()
    os.utime(project.runs / "images-2024-empty", (long_ago, long_ago))
    assert clean(project.settings(), 0).deleted == []
    project.add_image("b.png", scene((BOX, (0, 255, 0))))
    project.run_job(gates=GATES_OFF)
    assert all(path.read_text() == "somebody's" for path in foreign)
    assert (project.runs / "images-2024-empty").is_dir()


@pytest.mark.parametrize("by", ["clean", "label"])
def test_an_interrupted_clean_is_completed_by_the_next_command(
    project: LabelProject, monkeypatch: pytest.MonkeyPatch, by: str
) -> None:
    project.add_image("a.png", scene((BOX, (255, 0, 0))))
    project.run_job()
    stage_two(project)

    def killed(path: Path) -> None:
        next(path.rglob("*.parquet")).unlink()
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(cleanup, "delete_own", killed)
        clean(project.settings(), 0)
    assert len(list(project.runs.rglob("run.json"))) == 3
    if by == "clean":
        assert {one.why for one in clean(project.settings(), 1).deleted} == {"left by a killed process"}
    else:
        project.run_job(accept=True)
    assert not list(project.runs.rglob(".tmp-*"))


def test_a_locked_run_is_kept(project: LabelProject) -> None:
    project.add_image("a.png", scene((BOX, (255, 0, 0))))
    project.run_job()
    run = Run(project.runs / min(stage_two(project)))
    with run.lock():
        assert len(clean(project.settings(), 0).deleted) == 1
    assert run.has_started()
