"""The event log of a run."""

import json
import logging
from pathlib import Path

import pytest

from mining.config import MineSettings
from mining.runs.event_log import LOG_FILE, log_event
from mining.runs.mining_job import finish_mining, lock_run, plan_mining
from mining.runs.run import Run
from mining.runs.shard_mining import mine_shard
from tests.unit.engine.painting import crowd, list_painted, painted_model, write_corpus


def logged_events(folder: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (folder / LOG_FILE).read_text().splitlines()]


def test_a_run_logs_its_events_with_run_and_shard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    list_painted(monkeypatch)
    corpus = write_corpus(tmp_path, {**crowd(), "broken.png": b"?"}, None)
    model = painted_model(tmp_path / "model")
    settings = MineSettings(**corpus, model=str(model), out=tmp_path / "run", scales=(1.0,), shard_size=8, workers=1)
    with pytest.raises(RuntimeError), lock_run(settings.out):
        plan_mining(settings)
        mine_shard(Run(settings.out), 1)
        raise RuntimeError("the sky fell")
    with lock_run(settings.out):
        for shard in plan_mining(settings).shards:
            mine_shard(Run(settings.out), shard)
        finish_mining(Run(settings.out))
    events = logged_events(settings.out)
    assert [one["event"] for one in events] == [
        "opened",
        "shard mined",
        "stopped",
        "resumed",
        "shard mined",
        "finished",
    ]
    assert {one["run"] for one in events} == {"run"}
    assert [(one["shard"], one["images"], one["quarantined"]) for one in events if one["event"] == "shard mined"] == [
        (1, 7, 1), (0, 8, 0),
    ]  # fmt: skip
    assert events[2]["why"] == "the sky fell"
    assert all(one["at"] and one["pid"] and one["host"] for one in events)


def test_events_go_to_the_logger_even_when_the_log_file_cannot_be_written(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, logger="boxmine"):
        log_event(tmp_path / "gone", "shard mined", shard=3, seconds=None)
    assert caplog.messages == ["gone: shard mined shard=3"]
    assert not (tmp_path / "gone").exists()
