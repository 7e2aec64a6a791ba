"""Retries of deployed flows, and reporting to a server that fails."""

import time
from pathlib import Path
from typing import Any

import pytest

from flows.running import as_deployed_flow
from mining.config import Attempts, Recipe, ScoreSettings
from mining.errors import InputError, ProcessLostError, StorageError
from mining.runs import retries
from tasks import orchestration
from tasks.orchestration import report


class FailingFlow:
    """A flow that fails so many times."""

    def __init__(self, times: int = 0, error: Exception | None = None) -> None:
        self.given: list[ScoreSettings] = []

        def score(settings: ScoreSettings, accept: bool = False) -> bool:
            self.given.append(settings)
            if error is not None and len(self.given) <= times:
                raise error
            return accept

        self.deployed = as_deployed_flow(score).fn


SETTINGS = ScoreSettings(run=Path("run"), truth=Path("truth.json"))
WITHOUT_WAIT = Attempts(tries=3, wait_seconds=0)


def test_a_recipe_may_replace_the_settings(tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text("run: /runs/first\ntruth: truth.json\n")
    flow = FailingFlow()
    assert flow.deployed(Recipe(recipe=tmp_path / "recipe.yaml", changes={"maps": True}), True) is True
    assert flow.given == [ScoreSettings(run=Path("/runs/first"), truth=tmp_path / "truth.json", maps=True)]


@pytest.mark.parametrize("error", [StorageError("the disk is full"), ProcessLostError("killed by signal 9")])
def test_a_transient_error_is_retried(error: Exception) -> None:
    flow = FailingFlow(2, error)
    assert flow.deployed(SETTINGS, attempts=WITHOUT_WAIT) is False
    assert len(flow.given) == 3


def test_retries_are_limited() -> None:
    flow = FailingFlow(9, StorageError("the disk is full"))
    with pytest.raises(StorageError):
        flow.deployed(SETTINGS, attempts=WITHOUT_WAIT)
    assert len(flow.given) == 3


def test_an_error_in_the_settings_is_not_retried() -> None:
    flow = FailingFlow(9, InputError("no such folder"))
    with pytest.raises(InputError):
        flow.deployed(SETTINGS, attempts=WITHOUT_WAIT)
    assert len(flow.given) == 1


def test_each_wait_is_twice_the_previous_one(monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    monkeypatch.setattr(retries.time, "sleep", waits.append)
    with pytest.raises(StorageError):
        FailingFlow(9, StorageError("full")).deployed(SETTINGS, attempts=Attempts(tries=4, wait_seconds=60))
    assert waits == [60, 120, 240]


def test_a_flow_that_exceeds_its_time_limit_is_interrupted() -> None:
    def score(settings: ScoreSettings) -> None:
        starts.append(time.monotonic())
        while time.monotonic() < starts[0] + 30:
            time.sleep(0.01)

    starts: list[float] = []
    with pytest.raises(TimeoutError):
        as_deployed_flow(score).fn(SETTINGS, attempts=Attempts(tries=3, wait_seconds=0, hours=0.2 / 3600))
    assert len(starts) == 1


def test_a_server_that_does_not_answer_is_called_once(monkeypatch: pytest.MonkeyPatch) -> None:
    class Run:
        id = object()

    monkeypatch.setattr(orchestration, "_flow_run", Run)
    calls: list[Any] = []

    def show(value: int) -> None:
        calls.append(value)
        raise OSError("connection refused")

    assert report(show, 1) is None
    assert report(show, 2) is None
    assert calls == [1]
