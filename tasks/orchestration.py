"""Steps of flows: plain functions, and Prefect tasks inside a Prefect flow run.

Without Prefect, a step is the function itself and Prefect is never imported. Inside a flow run the same step becomes a
Prefect task with its retries, which the server shows.
"""

import logging
import sys
from collections.abc import Callable, Iterable, Iterator
from functools import cached_property, update_wrapper
from typing import Any, Generic, ParamSpec, TypeVar

from mining.runs.retries import is_transient, retry

P = ParamSpec("P")
R = TypeVar("R")
_log = logging.getLogger(__name__)
_silent: set[Any] = set()  # ids of flow runs whose server is gone: each further request would delay the work


def orchestrated() -> bool:
    """Return whether this is inside a Prefect flow run."""
    return _flow_run() is not None


def _flow_run() -> Any:
    if "prefect" not in sys.modules:
        return None
    from prefect.context import FlowRunContext

    context = FlowRunContext.get()
    return None if context is None else context.flow_run


def report(show: Callable[..., R], *args: Any) -> R | None:
    """Show something in Prefect's UI, inside a flow run only; after the first failure the run continues without it."""
    run = _flow_run()
    if run is None or run.id in _silent:
        return None
    try:
        return show(*args)
    except Exception as error:
        _silent.add(run.id)
        _log.warning("Prefect's UI does not show this run any more; the work continues. (%s)", error)
        return None


class Step(Generic[P, R]):
    """A function that is a Prefect task inside a Prefect flow run, and itself elsewhere."""

    def __init__(self, function: Callable[P, R], **options: Any) -> None:
        update_wrapper(self, function)
        self.function = function
        self.options = options

    @cached_property
    def task(self) -> Any:
        """The function as a Prefect task."""
        from prefect import task

        return task(self.function, **self.options)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Run the step: as a Prefect task in a flow run, else as a plain function."""
        return self.task(*args, **kwargs) if orchestrated() else self.function(*args, **kwargs)

    def each(self, items: Iterable[Any], *args: Any, retries: int = 0) -> Iterator[R]:
        """Run the step for each item in turn and yield the results.

        Args:
            items: First arguments of the calls.
            *args: Further arguments, the same for all.
            retries: Retries of an item that failed with a transient error.
        """
        if orchestrated():
            task = self.retried_task(retries)
            yield from (task(item, *args) for item in items)
        else:
            pause_s = self.options.get("retry_delay_seconds", 0)
            yield from (retry(self.function, item, *args, tries=retries + 1, pause_s=pause_s) for item in items)

    def retried_task(self, retries: int) -> Any:
        """Return the Prefect task with so many retries after transient errors."""
        return self.task.with_options(retries=retries, retry_condition_fn=_failed_transiently)


def _failed_transiently(_task: object, _run: object, state: Any) -> bool:
    error = state.result(raise_on_failure=False)
    return not isinstance(error, BaseException) or is_transient(error)


def step(**options: Any) -> Callable[[Callable[P, R]], Step[P, R]]:
    """Make a function a step of flows; options are those of prefect.task.

    Example:
        >>> double = step(name="double")(lambda number: 2 * number)
        >>> double(3)
        6
    """
    return lambda function: Step(function, **options)
