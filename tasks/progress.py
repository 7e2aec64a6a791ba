"""Where steps tell how far they are: a bar on a terminal, an artifact on Prefect's page."""

from collections.abc import Callable
from contextvars import ContextVar

from tasks.orchestration import orchestrated

Listener = Callable[[str, int, int, str], None]
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
        self._artifact = _new_artifact(name, start, total) if orchestrated() else None
        self.reach(start)

    def advance(self, count: int, text: str = "") -> None:
        """`count` more are done."""
        self.reach(self.done + count, text=text)

    def reach(self, done: int, total: int | None = None, text: str = "") -> None:
        """`done` of `total` are done."""
        self.total = self.total if total is None else total
        before, self.done = self.done, done
        listener = _listener.get()
        if listener is not None:
            listener(self.name, self.done, self.total, text)
        if self._artifact is not None and _percent(before, self.total) != _percent(done, self.total):
            from prefect.artifacts import update_progress_artifact

            update_progress_artifact(self._artifact, progress=_percent(done, self.total))


def _percent(done: int, total: int) -> float:
    return float(int(100 * done / total)) if total else 100.0


def _new_artifact(name: str, done: int, total: int) -> "object":
    from prefect.artifacts import create_progress_artifact

    return create_progress_artifact(progress=_percent(done, total), key=name.replace(" ", "-"), description=name)
