"""One description of a step or a flow, two ways to run it.

In process, a step is a plain function and Prefect is never imported. Inside a Prefect flow run the same step
becomes a Prefect task with its retries, so that a server sees it.
"""

import logging
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from functools import cached_property, update_wrapper
from typing import Any, Generic, ParamSpec, TypeVar

from mining.errors import BoxmineError, ProcessLostError, StorageError

P = ParamSpec("P")
R = TypeVar("R")
_log = logging.getLogger(__name__)
_silent: set[Any] = set()  # ids of flow runs whose server has gone: asking it again and again would hold up the work
PAUSE_SECONDS = 5  # before a shard that failed is tried again


def orchestrated() -> bool:
    """True inside a Prefect flow run."""
    return _flow_run() is not None


def _flow_run() -> Any:
    if "prefect" not in sys.modules:
        return None
    from prefect.context import FlowRunContext

    context = FlowRunContext.get()
    return None if context is None else context.flow_run


def report(show: Callable[..., R], *args: Any) -> R | None:
    """Call what shows something on Prefect's page, inside a flow run only; without a server the work goes on."""
    run = _flow_run()
    if run is None or run.id in _silent:
        return None
    try:
        return show(*args)
    except Exception as error:
        _silent.add(run.id)
        _log.warning("Prefect's page does not follow this run any more; the work goes on. (%s)", error)
        return None


class Step(Generic[P, R]):
    """A function that is a Prefect task where a flow run is under way, and itself elsewhere."""

    def __init__(self, function: Callable[P, R], **options: Any) -> None:
        update_wrapper(self, function)
        self.function = function
        self.options = options

    @cached_property
    def task(self) -> Any:
        """The Prefect task."""
        from prefect import task

        return task(self.function, **self.options)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        return self.task(*args, **kwargs) if orchestrated() else self.function(*args, **kwargs)

    def each(self, items: Iterable[Any], *args: Any, retries: int = 0) -> Iterator[R]:
        """Run the step for each item, one after the other, and give the results as they come.

        retries: further tries of an item that failed, for a reason that may pass.
        """
        if orchestrated():
            task = self.retried_task(retries)
            yield from (task(item, *args) for item in items)
        else:
            pause = self.options.get("retry_delay_seconds", 0)
            yield from (retry(self.function, item, *args, tries=retries + 1, pause=pause) for item in items)

    def retried_task(self, retries: int) -> Any:
        """The Prefect task, with so many further tries after an error that may pass."""
        return self.task.with_options(retries=retries, retry_condition_fn=_failed_for_now)


def retry(function: Callable[..., R], *args: Any, tries: int, pause: float) -> R:
    """Call the function until it succeeds, at most so many times; seconds of pause before each further try."""
    for left in reversed(range(tries)):
        try:
            return function(*args)
        except Exception as error:
            if not left or not is_transient(error):
                raise
            time.sleep(pause)
    raise AssertionError("at least one try")


def is_transient(error: BaseException) -> bool:
    """Whether trying again may help: not for what boxmine raises on purpose, which names its remedy."""
    return not isinstance(error, BoxmineError)


def is_transient_later(error: BaseException) -> bool:
    """Whether trying again some time later may help: for a disk that was full, too, or a process that was killed."""
    return is_transient(error) or isinstance(error, StorageError | ProcessLostError)


def _failed_for_now(_task: object, _run: object, state: Any) -> bool:
    error = state.result(raise_on_failure=False)
    return not isinstance(error, BaseException) or is_transient(error)


def step(**options: Any) -> Callable[[Callable[P, R]], Step[P, R]]:
    """Mark a function as a step; options are those of prefect.task."""
    return lambda function: Step(function, **options)
