"""How deployed flows are tried, and what becomes of work whose server fails."""

import time
from pathlib import Path
from typing import Any

import pytest

from flows.running import as_deployed_flow
from mining.config import Attempts, Recipe, ScoreSettings
from mining.errors import InputError, ProcessLostError, StorageError
from tasks import orchestration
from tasks.orchestration import report


class Work:
    """A flow that fails a few times."""

    def __init__(self, times: int = 0, error: Exception | None = None) -> None:
        self.given: list[ScoreSettings] = []

        def score(settings: ScoreSettings, accept: bool = False) -> bool:
            self.given.append(settings)
            if error is not None and len(self.given) <= times:
                raise error
            return accept

        self.deployed = as_deployed_flow(score).fn


SETTINGS = ScoreSettings(run=Path("run"), truth=Path("truth.json"))
AT_ONCE = Attempts(tries=3, wait_seconds=0)


def test_a_recipe_stands_for_the_settings(tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text("run: /runs/first\ntruth: truth.json\n")
    work = Work()
    assert work.deployed(Recipe(recipe=tmp_path / "recipe.yaml", changes={"maps": True}), True) is True
    assert work.given == [ScoreSettings(run=Path("/runs/first"), truth=tmp_path / "truth.json", maps=True)]


@pytest.mark.parametrize("error", [StorageError("the disk is full"), ProcessLostError("killed by signal 9")])
def test_what_may_be_better_later_is_waited_for(error: Exception) -> None:
    work = Work(2, error)
    assert work.deployed(SETTINGS, attempts=AT_ONCE) is False
    assert len(work.given) == 3


def test_tries_come_to_an_end() -> None:
    work = Work(9, StorageError("the disk is full"))
    with pytest.raises(StorageError):
        work.deployed(SETTINGS, attempts=AT_ONCE)
    assert len(work.given) == 3


def test_what_is_wrong_in_the_settings_is_tried_once() -> None:
    work = Work(9, InputError("no such folder"))
    with pytest.raises(InputError):
        work.deployed(SETTINGS, attempts=AT_ONCE)
    assert len(work.given) == 1


def test_each_wait_is_twice_the_last(monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    monkeypatch.setattr(orchestration.time, "sleep", waits.append)
    with pytest.raises(StorageError):
        Work(9, StorageError("full")).deployed(SETTINGS, attempts=Attempts(tries=4, wait_seconds=60))
    assert waits == [60, 120, 240]


def test_what_takes_longer_than_its_hours_is_interrupted() -> None:
    def score(settings: ScoreSettings) -> None:
        starts.append(time.monotonic())
        while time.monotonic() < starts[0] + 30:
            time.sleep(0.01)

    starts: list[float] = []
    with pytest.raises(TimeoutError):
        as_deployed_flow(score).fn(SETTINGS, attempts=Attempts(tries=3, wait_seconds=0, hours=0.2 / 3600))
    assert len(starts) == 1


def test_a_server_that_does_not_answer_is_asked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    class Run:
        id = object()

    monkeypatch.setattr(orchestration, "_flow_run", Run)
    asked: list[Any] = []

    def show(value: int) -> None:
        asked.append(value)
        raise OSError("connection refused")

    assert report(show, 1) is None
    assert report(show, 2) is None
    assert asked == [1]
