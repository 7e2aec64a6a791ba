"""A step does the same with and without Prefect: results, retries, errors; progress reports are few."""

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
def execute(request: pytest.FixtureRequest) -> Callable[[Callable[[], Any]], Any]:
    return in_process if request.param == "in process" else request.getfixturevalue("under_prefect")


class FailingStep:
    """A step that doubles its argument after so many failures."""

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


def test_items_are_processed_in_order(execute: Callable[[Callable[[], Any]], Any]) -> None:
    step = FailingStep(0, OSError()).step()
    assert execute(lambda: list(step.each([1, 2, 3]))) == [2, 4, 6]
    assert execute(lambda: step(4)) == 8


def test_a_transient_error_is_retried(execute: Callable[[Callable[[], Any]], Any]) -> None:
    failing = FailingStep(2, OSError("the share went away"))
    assert execute(lambda: list(failing.step().each([1, 2], retries=2))) == [2, 4]
    assert failing.calls == 4


def test_after_the_last_retry_the_error_is_raised(execute: Callable[[Callable[[], Any]], Any]) -> None:
    failing = FailingStep(9, OSError("the share went away"))
    with pytest.raises(OSError, match="the share went away"):
        execute(lambda: list(failing.step().each([1], retries=2)))
    assert failing.calls == 3


def test_an_error_with_a_remedy_is_not_retried(execute: Callable[[Callable[[], Any]], Any]) -> None:
    failing = FailingStep(9, RunError("give another --out"))
    with pytest.raises(RunError, match="give another --out"):
        execute(lambda: list(failing.step().each([1], retries=2)))
    assert failing.calls == 1


def test_a_staged_version_is_returned_though_its_flow_run_fails(
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
    assert len(calls) == 1, "it is not retried"
    assert "cannot be reached" not in caplog.text


# --- progress --------------------------------------------------------------------------------------------------------


@pytest.fixture
def updates(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The values to which artifacts are updated after their creation."""
    from prefect import artifacts

    update, values = artifacts.update_progress_artifact, []

    def record(artifact: Any, progress: float) -> Any:
        values.append(progress)
        return update(artifact, progress=progress)

    monkeypatch.setattr(artifacts, "update_progress_artifact", record)
    return values


def test_an_artifact_is_updated_rarely_and_ends_at_100_percent(
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


def test_an_artifact_is_updated_when_its_interval_has_passed(
    under_prefect: Callable[[Callable[[], Any]], Any], updates: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tasks.progress.UPDATE_INTERVAL_S", 0.0)

    def count() -> None:
        stage = Stage("slow", 200, start=100)
        for _ in range(4):
            stage.advance(1)

    under_prefect(count)
    assert updates == [51.0, 52.0]


@pytest.mark.slow
def test_a_training_runs_in_another_process_with_workers(
    under_prefect: Callable[[Callable[[], Any]], Any], tmp_path: Path
) -> None:
    write_photos(tmp_path / "images" / "a", ["0.jpg", "1.jpg"])
    write_photos(tmp_path / "images" / "b", ["2.jpg", "3.jpg"])
    (tmp_path / "images" / "b" / "3.jpg").write_bytes(b"no photo")
    settings = TrainSettings(
        images=tmp_path / "images", out=tmp_path / "model", epochs=1, batch_size=2, input_size=64, weights="none",
        freeze=False, accelerator="cpu", workers=2, validation_share=0, cells=False,
    )  # fmt: skip
    summary = under_prefect(lambda: train_localizer(settings))
    assert list(summary.unreadable) == ["b/3.jpg"]
    assert read_card(tmp_path / "model").training["settings"]["workers"] == 2
    with pytest.raises(ModelError, match="holds a finished model of other settings"):
        under_prefect(lambda: train_localizer(settings.model_copy(update={"epochs": 2})))
