"""Report the progress of steps: a bar on a terminal, an artifact in Prefect's UI."""

import time
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

from tasks.orchestration import report

Listener = Callable[[str, int, int, str], None]
UPDATE_INTERVAL_S = 5.0  # of an artifact: the work waits for each request
_listener: ContextVar[Listener | None] = ContextVar("listener", default=None)


def listen(listener: Listener) -> None:
    """Call `listener(stage, done, total, text)` whenever a step makes progress from now on."""
    _listener.set(listener)


class Stage:
    """The progress of one stage.

    Args:
        name: Name of the stage.
        total: What it counts to: images, epochs, cells.
        start: How much of it is done already.
    """

    def __init__(self, name: str, total: int, start: int = 0) -> None:
        self.name = name
        self.total = total
        self.done = start
        self._shown, self._updated = _percent(start, total), time.monotonic()
        self._artifact = report(_new_artifact, name, self._shown)
        self.reach(start)

    def advance(self, count: int, text: str = "") -> None:
        """Report that `count` more are done."""
        self.reach(self.done + count, text=text)

    def reach(self, done: int, total: int | None = None, text: str = "") -> None:
        """Report that `done` of `total` are done."""
        self.total = self.total if total is None else total
        self.done = done
        listener = _listener.get()
        if listener is not None:
            listener(self.name, self.done, self.total, text)
        percent, now = _percent(done, self.total), time.monotonic()
        is_due = done >= self.total or now - self._updated >= UPDATE_INTERVAL_S
        if self._artifact is not None and percent != self._shown and is_due:
            report(_update_artifact, self._artifact, percent)
            self._shown, self._updated = percent, now


def _percent(done: int, total: int) -> float:
    return float(int(100 * done / total)) if total else 100.0


def _new_artifact(name: str, percent: float) -> Any:
    from prefect.artifacts import create_progress_artifact

    return create_progress_artifact(progress=percent, key=name.replace(" ", "-"), description=name)


def _update_artifact(artifact: Any, percent: float) -> None:
    from prefect.artifacts import update_progress_artifact

    update_progress_artifact(artifact, progress=percent)
