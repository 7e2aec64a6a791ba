"""A step is the same work with and without Prefect: results, retries, errors; progress costs no time worth telling."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from flows.running import run_flow
from mining.config import ScoreSettings, TrainSettings
from mining.errors import ModelError, RunError
from mining.label_store.summaries import GateResult, LabelSummary
from mining.models.card import read_card
from tasks.orchestration import Step
from tasks.progress import UPDATE_INTERVAL_S, Stage
from tasks.training import train_localizer
from tests.factories import write_photos


def in_process(flow: Callable[[], Any]) -> Any:
    return flow()


@pytest.fixture(scope="module")
def under_prefect() -> Iterator[Callable[[Callable[[], Any]], Any]]:
    from prefect import flow
    from prefect.testing.utilities import prefect_test_harness

    with prefect_test_harness(server_startup_timeout=120):
        yield lambda function: flow(function, name="test")()


@pytest.fixture(params=["in process", "under Prefect"])
def executed(request: pytest.FixtureRequest) -> Callable[[Callable[[], Any]], Any]:
    return in_process if request.param == "in process" else request.getfixturevalue("under_prefect")


class Failing:
    """Doubles its argument, after `times` failures."""

    def __init__(self, times: int, error: Exception) -> None:
        self.times = times
        self.error = error
        self.calls = 0

    def step(self) -> Step[[int], int]:
        def double(number: int) -> int:
            self.calls += 1
            if self.calls <= self.times:
                raise self.error
            return 2 * number

        return Step(double, retry_delay_seconds=0)


def test_each_item_is_done_in_order(executed: Callable[[Callable[[], Any]], Any]) -> None:
    step = Failing(0, OSError()).step()
    assert executed(lambda: list(step.each([1, 2, 3]))) == [2, 4, 6]
    assert executed(lambda: step(4)) == 8


def test_what_may_pass_is_tried_again(executed: Callable[[Callable[[], Any]], Any]) -> None:
    failing = Failing(2, OSError("the share went away"))
    assert executed(lambda: list(failing.step().each([1, 2], retries=2))) == [2, 4]
    assert failing.calls == 4


def test_after_the_last_try_the_error_comes_through(executed: Callable[[Callable[[], Any]], Any]) -> None:
    failing = Failing(9, OSError("the share went away"))
    with pytest.raises(OSError, match="the share went away"):
        executed(lambda: list(failing.step().each([1], retries=2)))
    assert failing.calls == 3


def test_what_names_its_remedy_is_not_tried_again(executed: Callable[[Callable[[], Any]], Any]) -> None:
    failing = Failing(9, RunError("give another --out"))
    with pytest.raises(RunError, match="give another --out"):
        executed(lambda: list(failing.step().each([1], retries=2)))
    assert failing.calls == 1


def test_a_staged_version_is_the_result_of_its_command_though_its_flow_run_ends_as_failed(
    under_prefect: Callable[[Callable[[], Any]], Any], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    tally = {"kept": 0, "reasons": {"new": 20}, "moved": 0, "copied": 0, "retired": 0}
    gate = GateResult("max_no_box", 0.9, 0.5, False, "new images without a box, 18 of 20")
    staged = LabelSummary("staged", "labels", None, 20, 2, tally, 0, 0, [], [gate], [], corpus="shop")
    calls: list[ScoreSettings] = []

    def label(settings: ScoreSettings) -> LabelSummary:
        calls.append(settings)
        return staged

    monkeypatch.setenv("BOXMINE_PREFECT", "1")
    assert run_flow(label, ScoreSettings(run=Path("run"), truth=Path("truth.json")), checks=False) is staged
    assert len(calls) == 1, "it is not tried again"
    assert "cannot be reached" not in caplog.text


# --- progress --------------------------------------------------------------------------------------------------------


@pytest.fixture
def updates(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The values that artifacts are given after they were made."""
    from prefect import artifacts

    update, values = artifacts.update_progress_artifact, []

    def noted(artifact: Any, progress: float) -> Any:
        values.append(progress)
        return update(artifact, progress=progress)

    monkeypatch.setattr(artifacts, "update_progress_artifact", noted)
    return values


def test_an_artifact_is_not_updated_for_each_percent_but_ends_at_all(
    under_prefect: Callable[[Callable[[], Any]], Any], updates: list[float]
) -> None:
    from prefect.artifacts import Artifact

    def count() -> float:
        stage, started = Stage("quick", 200), time.monotonic()
        for _ in range(200):
            stage.advance(1)
        return time.monotonic() - started

    seconds = under_prefect(count)
    assert len(updates) <= 1 + seconds / UPDATE_INTERVAL_S
    assert updates[-1] == Artifact.get("quick").data == 100.0


def test_an_artifact_is_updated_where_there_was_time(
    under_prefect: Callable[[Callable[[], Any]], Any], updates: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tasks.progress.UPDATE_INTERVAL_S", 0.0)

    def count() -> None:
        stage = Stage("slow", 200, start=100)
        for _ in range(4):
            stage.advance(1)

    under_prefect(count)
    assert updates == [51.0, 52.0]


def test_a_training_has_a_process_of_its_own_and_others_that_feed_it(
    under_prefect: Callable[[Callable[[], Any]], Any], tmp_path: Path
) -> None:
    write_photos(tmp_path / "images" / "a", ["0.jpg", "1.jpg"])
    write_photos(tmp_path / "images" / "b", ["2.jpg", "3.jpg"])
    (tmp_path / "images" / "b" / "3.jpg").write_bytes(b"no photo")
    settings = TrainSettings(
        images=tmp_path / "images", out=tmp_path / "model", epochs=1, batch_size=2, input_size=64, weights="none",
        freeze=False, accelerator="cpu", workers=2, validation_share=0,
    )  # fmt: skip
    summary = under_prefect(lambda: train_localizer(settings))
    assert list(summary.unreadable) == ["b/3.jpg"]
    assert read_card(tmp_path / "model").training["settings"]["workers"] == 2
    with pytest.raises(ModelError, match="holds a finished model of other settings"):
        under_prefect(lambda: train_localizer(settings.model_copy(update={"epochs": 2})))
