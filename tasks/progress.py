"""Where steps tell how far they are: a bar on a terminal, an artifact on Prefect's page."""

import time
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

from tasks.orchestration import report

Listener = Callable[[str, int, int, str], None]
UPDATE_EVERY_SECONDS = 5.0  # an artifact: the server is asked while the work waits
_listener: ContextVar[Listener | None] = ContextVar("listener", default=None)


def listen(listener: Listener) -> None:
    """Have `listener(stage, done, total, text)` called by every step from now on."""
    _listener.set(listener)


class Stage:
    """Counts one stage's progress. total: of whatever it counts; start: how much is done already."""

    def __init__(self, name: str, total: int, start: int = 0) -> None:
        self.name = name
        self.total = total
        self.done = start
        self._shown, self._updated = _percent(start, total), time.monotonic()
        self._artifact = report(_new_artifact, name, self._shown)
        self.reach(start)

    def advance(self, count: int, text: str = "") -> None:
        """`count` more are done."""
        self.reach(self.done + count, text=text)

    def reach(self, done: int, total: int | None = None, text: str = "") -> None:
        """`done` of `total` are done."""
        self.total = self.total if total is None else total
        self.done = done
        listener = _listener.get()
        if listener is not None:
            listener(self.name, self.done, self.total, text)
        percent, now = _percent(done, self.total), time.monotonic()
        is_due = done >= self.total or now - self._updated >= UPDATE_EVERY_SECONDS
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
