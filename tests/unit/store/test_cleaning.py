"""What is cleaned away is what nobody needs."""

import os
import shutil
import time

from deltalake import DeltaTable

from mining.store.cleaning import clean
from tests.unit.engine.painting import BOX, scene
from tests.unit.store.desk import Desk
from tests.unit.store.test_nights import GATES_OFF


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
    would = clean(settings, 0, dry_run=True)
    assert {os.path.basename(one.path) for one in would} == staged
    assert all(one.size > 0 for one in would)
    assert names(desk) == published | staged
    assert [os.path.basename(one.path) for one in clean(settings, 1)] == [min(staged)]
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
    orphan, fresh = (data.with_name(f"part-{name}.parquet") for name in ("orphan", "fresh"))
    for path in (orphan, fresh):
        shutil.copy(data, path)
    long_ago = time.time() - 3 * 24 * 3600
    os.utime(orphan, (long_ago, long_ago))
    run = next(desk.runs.glob("images-00001-*"))
    (run / "parts" / ".tmp-7-part-00000.parquet").write_bytes(b"half")
    found = {os.path.basename(one.path) for one in clean(desk.settings(), 3)}
    assert found == {"part-orphan.parquet", ".tmp-7-part-00000.parquet"}
    assert not orphan.exists()
    assert fresh.exists(), "it may be of a job that is about to publish"
    assert [desk.rows(version) for version in range(3)] == before
    assert desk.rows() == before[-1]
    versions = DeltaTable(desk.store).version()
    assert clean(desk.settings(), 3) == []
    assert DeltaTable(desk.store).version() == versions, "where nothing is cleaned nothing is written"
    assert desk.job(gates=GATES_OFF).state == "unchanged"


def test_the_runs_of_a_corpus_with_a_longer_name_are_not_taken_for_its_own(desk: Desk) -> None:
    desk.put("a.png", scene((BOX, (255, 0, 0))))
    theirs = desk.job(name="images-2").runs
    own = desk.job(name="images").runs
    assert theirs != own
    assert clean(desk.settings(name="images"), 0) == []
    assert all((desk.runs / run).is_dir() for run in [*own, *theirs])
    desk.put("b.png", scene((BOX, (250, 0, 0))))
    assert desk.job(name="images").runs[0].startswith("images-00002-")
