"""One description of a step or a flow, two ways to run it.

In process, a step is a plain function and Prefect is never imported. Inside a Prefect flow run the same step
becomes a Prefect task with its retries, so that a server sees it.
"""

import sys
from collections.abc import Callable, Iterable, Iterator
from functools import cached_property, update_wrapper
from typing import Any, Generic, ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")


def orchestrated() -> bool:
    """True inside a Prefect flow run."""
    if "prefect" not in sys.modules:
        return False
    from prefect.context import FlowRunContext

    return FlowRunContext.get() is not None


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

    def each(self, items: Iterable[Any], *args: Any, **options: Any) -> Iterator[R]:
        """Run the step for each item, one after the other, and give the results as they come.

        options: of Prefect's task for these calls (e.g. retries).
        """
        if not orchestrated():
            for item in items:
                yield self.function(item, *args)  # type: ignore[call-arg,arg-type]
            return
        task = self.task.with_options(**options)
        for item in items:
            yield task(item, *args)


def step(**options: Any) -> Callable[[Callable[P, R]], Step[P, R]]:
    """Mark a function as a step; options are those of prefect.task."""
    return lambda function: Step(function, **options)
