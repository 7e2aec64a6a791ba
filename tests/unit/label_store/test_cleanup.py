"""What is cleaned away is what nobody needs."""

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
from tests.unit.label_store.desk import Desk
from tests.unit.label_store.test_nights import GATES_OFF


def names(desk: Desk) -> set[str]:
    return {path.name for path in desk.runs.glob("images-*")}


def stage_two(desk: Desk) -> set[str]:
    """Two runs whose boxes a gate keeps back; gives their names."""
    before = names(desk)
    for number in range(2):
        for position in range(9):
            desk.put(f"dark-{number}-{position}.png", scene((BOX, (0, 0, 9 * number + position))))
        assert desk.job(gates={"max_no_box": 0.1}).state == "staged"
    return names(desk) - before


def test_unpublished_runs_go_and_published_ones_stay(desk: Desk) -> None:
    desk.put("a.png", scene((BOX, (255, 0, 0))))
    published = set(desk.job().runs)
    staged = stage_two(desk)
    settings = desk.settings()
    would = clean(settings, 0, dry_run=True).deleted
    assert {os.path.basename(one.path) for one in would} == staged
    assert all(one.size > 0 for one in would)
    assert names(desk) == published | staged
    assert [os.path.basename(one.path) for one in clean(settings, 1).deleted] == [min(staged)]
    clean(settings, 0)
    assert names(desk) == published
    assert len(desk.by_name()) == 1
    assert desk.job(accept=True).images == 19, "what is gone is mined again"


def test_recipes_may_ask_for_it(desk: Desk) -> None:
    desk.put("a.png", scene((BOX, (255, 0, 0))))
    published = set(desk.job().runs)
    stage_two(desk)
    assert desk.job(gates={"max_no_box": 0.1}, keep_runs=1).state == "staged"
    assert len(names(desk) - published) == 1


def test_what_killed_processes_left_goes_and_every_version_stays(desk: Desk) -> None:
    for night in range(3):
        desk.put(f"{night}.png", scene((BOX, (255 - night, 0, 0))))
        desk.job(gates=GATES_OFF)
    before = [desk.rows(version) for version in range(3)]
    data = next(desk.store.glob("bucket=*/*.parquet"))
    orphan, fresh = (data.with_name(f"part-{uuid4()}.parquet") for _ in range(2))
    earlier = data.with_name(f"part-00000-{uuid4()}-c000.zstd.parquet")  # as earlier versions named them
    for path in (orphan, earlier, fresh):
        shutil.copy(data, path)
    long_ago = time.time() - 3 * 24 * 3600
    for path in (orphan, earlier):
        os.utime(path, (long_ago, long_ago))
    run = next(desk.runs.glob("images-00001-*"))
    left = temporary_path(run / "parts" / "part-00000.parquet")
    left.write_bytes(b"half")
    os.utime(left, (long_ago, long_ago))
    found = {os.path.basename(one.path) for one in clean(desk.settings(), 3).deleted}
    assert found == {orphan.name, earlier.name, left.name}
    assert not orphan.exists()
    assert fresh.exists(), "it may be of a job that is about to publish"
    assert [desk.rows(version) for version in range(3)] == before
    assert desk.rows() == before[-1]
    versions = DeltaTable(desk.store).version()
    assert clean(desk.settings(), 3).deleted == []
    assert DeltaTable(desk.store).version() == versions, "where nothing is cleaned nothing is written"
    assert desk.job(gates=GATES_OFF).state == "unchanged"


def test_the_runs_of_a_corpus_with_a_longer_name_are_not_taken_for_its_own(desk: Desk) -> None:
    desk.put("a.png", scene((BOX, (255, 0, 0))))
    theirs = desk.job(name="images-2").runs
    own = desk.job(name="images").runs
    assert theirs != own
    assert clean(desk.settings(name="images"), 0).deleted == []
    assert all((desk.runs / run).is_dir() for run in [*own, *theirs])
    desk.put("b.png", scene((BOX, (250, 0, 0))))
    assert desk.job(name="images").runs[0].startswith("images-00002-")


# --- what is not its own ---------------------------------------------------------------------------------------------


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def refuses_to_clean(desk: Desk, **changes: str) -> bool:
    """Whether nothing is deleted, and a sentence says so."""
    before = contents(desk.runs)
    with pytest.raises(InputError, match=r"holds no labels of 'images'.*nothing was deleted"):
        clean(desk.settings(**changes), 0)
    return contents(desk.runs) == before


def test_without_its_store_nothing_is_deleted(desk: Desk, tmp_path: Path) -> None:
    desk.put("a.png", scene((BOX, (255, 0, 0))))
    desk.job()
    stage_two(desk)
    assert refuses_to_clean(desk, store=str(tmp_path / "lables")), "a mistyped address"
    desk.store.rename(tmp_path / "elsewhere")
    assert refuses_to_clean(desk), "a store that is not mounted"
    desk.store.mkdir()
    assert refuses_to_clean(desk), "the folder that it is mounted at"
    assert not (tmp_path / "lables").exists()


def test_a_store_of_another_corpus_is_not_taken_for_the_one_that_has_the_runs(desk: Desk, tmp_path: Path) -> None:
    desk.put("a.png", scene((BOX, (255, 0, 0))))
    desk.job()
    desk.job(name="others", store=str(tmp_path / "other"))
    assert refuses_to_clean(desk, store=str(tmp_path / "other"))


def test_two_stores_that_share_runs_and_name_do_not_lose_each_others_runs(desk: Desk, tmp_path: Path) -> None:
    desk.put("a.png", scene((BOX, (255, 0, 0))))
    desk.job()
    stage_two(desk)
    before = contents(desk.runs)
    other = str(tmp_path / "other")
    desk.job(new_store=True, store=other, gates=GATES_OFF)
    kept = {name: content for name, content in contents(desk.runs).items() if name in before and "run.json" not in name}
    cleaned = clean(desk.settings(store=other), 0)
    assert cleaned.deleted == []
    assert {name: content for name, content in contents(desk.runs).items() if name in kept} == kept


def test_a_run_that_was_published_stays_when_the_store_has_forgotten_it(desk: Desk, tmp_path: Path) -> None:
    desk.put("a.png", scene((BOX, (255, 0, 0))))
    desk.job()
    shutil.copytree(desk.store, tmp_path / "backup")
    desk.put("b.png", scene((BOX, (0, 255, 0))))
    (published,) = desk.job(gates=GATES_OFF).runs
    shutil.rmtree(desk.store)
    (tmp_path / "backup").rename(desk.store)
    cleaned = clean(desk.settings(), 0)
    assert (cleaned.deleted, len(cleaned.notes)) == ([], 1)
    assert (desk.runs / published).is_dir()


def test_a_store_that_was_moved_is_known_again(desk: Desk, tmp_path: Path) -> None:
    desk.put("a.png", scene((BOX, (255, 0, 0))))
    desk.job()
    staged = stage_two(desk)
    desk.store.rename(tmp_path / "moved")
    moved = desk.settings(store=str(tmp_path / "moved"))
    assert {os.path.basename(one.path) for one in clean(moved, 0).deleted} == staged


def test_runs_that_do_not_say_for_which_store_they_are_stay(desk: Desk) -> None:
    desk.put("a.png", scene((BOX, (255, 0, 0))))
    desk.job()
    staged = stage_two(desk)
    for name in staged:
        Run(desk.runs / name).update(label_job=None)
    cleaned = clean(desk.settings(), 0)
    assert cleaned.deleted == []
    assert cleaned.notes[0].startswith("2 runs that this store does not name stay")


def test_files_of_others_in_the_store_and_beside_the_runs_stay(desk: Desk) -> None:
    desk.put("a.png", scene((BOX, (255, 0, 0))))
    (run,) = desk.job().runs
    foreign = [
        desk.store / "README.txt", desk.store / "notes" / "part-00000.parquet", desk.store / "bucket=0" / "own.parquet",
        desk.runs / ".tmp-a" / "x", desk.runs / ".images" / ".tmp-b", desk.runs / run / ".tmp-c",
        desk.runs / run / "notes" / ".tmp-d", desk.runs / "images-2024-photos" / ".keep",
    ]  # fmt: skip
    long_ago = time.time() - 3 * 24 * 3600
    for path in foreign:
        path.parent.mkdir(exist_ok=True)
        path.write_text("somebody's")
        os.utime(path, (long_ago, long_ago))
    (desk.runs / "images-2024-empty").mkdir()
    os.utime(desk.runs / "images-2024-empty", (long_ago, long_ago))
    assert clean(desk.settings(), 0).deleted == []
    desk.put("b.png", scene((BOX, (0, 255, 0))))
    desk.job(gates=GATES_OFF)
    assert all(path.read_text() == "somebody's" for path in foreign)
    assert (desk.runs / "images-2024-empty").is_dir()


@pytest.mark.parametrize("by", ["clean", "label"])
def test_what_a_killed_clean_left_is_found_by_the_next_command(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, by: str
) -> None:
    desk.put("a.png", scene((BOX, (255, 0, 0))))
    desk.job()
    stage_two(desk)

    def killed(path: Path) -> None:
        next(path.rglob("*.parquet")).unlink()
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(cleanup, "delete", killed)
        clean(desk.settings(), 0)
    assert len(list(desk.runs.rglob("run.json"))) == 3
    if by == "clean":
        assert {one.why for one in clean(desk.settings(), 1).deleted} == {"left by a killed process"}
    else:
        desk.job(accept=True)
    assert not list(desk.runs.rglob(".tmp-*"))


def test_a_run_that_somebody_works_on_stays(desk: Desk) -> None:
    desk.put("a.png", scene((BOX, (255, 0, 0))))
    desk.job()
    run = Run(desk.runs / min(stage_two(desk)))
    with run.lock():
        assert len(clean(desk.settings(), 0).deleted) == 1
    assert run.has_started()
