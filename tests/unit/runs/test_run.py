"""What a Run object reads of its directory, and when."""

import pickle
from pathlib import Path

import pytest

from mining.errors import DamagedFileError, RunError
from mining.runs import run as run_module
from mining.runs.mining_job import finish_mining
from mining.runs.run import Run
from mining.runs.shard_mining import mine_shard
from tests.unit.engine.painting import GREEN, RED, list_painted, opened, scene

PICTURES = {"a.png": scene(((4, 4, 28, 28), RED)), "b.png": scene(((4, 4, 28, 28), GREEN)), "broken.png": b"?"}


@pytest.fixture
def started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    list_painted(monkeypatch)
    return opened(tmp_path, PICTURES, None)


@pytest.fixture
def finished(started: Run) -> Run:
    mine_shard(started.path, 0)
    finish_mining(started.path)
    return Run.open(started.path)


def test_the_tables_of_a_finished_run_are_read(finished: Run) -> None:
    assert finished.state == "finished"
    assert finished.read_corpus(["file_name"])["file_name"].to_pylist() == list(PICTURES)
    assert len(finished.read_annotations()) == finished.record["counts"]["boxes"] > 0
    assert finished.read_quarantine(["file_name"])["file_name"].to_pylist() == ["broken.png"]
    assert len(finished.read_curves(["image_id"])) > 0
    assert len(finished.read_rankings()) == 2
    assert finished.read_scores() is None
    assert finished.card.localizer == "painted"
    assert finished.image_root == finished.settings.images


def test_a_folder_without_a_record_is_not_opened(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"is not a run directory: it has no run\.json"):
        Run.open(tmp_path)


def test_an_unfinished_run_is_not_opened_as_a_finished_one(started: Run) -> None:
    assert Run.open(started.path).state == "running"
    with pytest.raises(RunError, match=r"is not finished \(state: running\)"):
        Run.open(started.path, finished=True)


def test_a_damaged_table_is_not_read(finished: Run) -> None:
    finished.annotations.write_bytes(finished.annotations.read_bytes()[:-9] + b"\0" * 9)
    with pytest.raises(DamagedFileError, match=r"annotations\.parquet is damaged"):
        finished.read_annotations()


def test_a_column_that_a_table_lacks_is_named(finished: Run) -> None:
    with pytest.raises(RunError, match=r"annotations\.parquet has no column iou"):
        finished.read_annotations(["score", "iou"])


def test_the_record_is_parsed_again_only_after_it_changed(started: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    reads: list[Path] = []
    read = run_module.read_run_record
    monkeypatch.setattr(run_module, "read_run_record", lambda path: (reads.append(path), read(path))[1])
    run = Run.open(started.path)
    assert run.record is run.record
    assert run.settings is run.settings
    assert len(reads) == 1
    Run(started.path).update(state="stopped")  # as another process would
    assert run.state == "stopped"
    assert len(reads) == 3  # the other object's, and this one's second


def test_a_run_can_be_sent_to_another_process(started: Run) -> None:
    assert started.record
    sent = pickle.loads(pickle.dumps(started))
    assert (sent.path, sent.record, sent.settings) == (started.path, started.record, started.settings)
