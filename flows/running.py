"""How a flow is run: in process, or under Prefect where a server is configured or asked for."""

import inspect
import logging
import os
import queue
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, suppress
from functools import wraps
from pathlib import Path
from typing import Any, TypeVar

from mining.config import Attempts, Recipe, Settings
from mining.redaction import redact
from tasks.checking import check_inputs
from tasks.labelling import LabelSummary, staged_state
from tasks.orchestration import is_transient_later

R = TypeVar("R")
STARTUP_SECONDS = "120"  # small machines need more than Prefect's own limits
_log = logging.getLogger(__name__)


def prefect_is_wanted() -> bool:
    """True where PREFECT_API_URL is set or BOXMINE_PREFECT=1 asks for the embedded server."""
    return bool(os.environ.get("PREFECT_API_URL")) or os.environ.get("BOXMINE_PREFECT") == "1"


def run_flow(flow: Callable[..., R], settings: Any, *, checks: bool = True, **options: Any) -> R:
    """Run a flow as this process is set up to; a Prefect server that cannot be reached costs no work.

    What can be refused at once is refused before Prefect or a network library is imported. checks: False for what
    needs none of the images and models that the settings name.
    """
    if checks:
        check_inputs(settings)
    if not prefect_is_wanted():
        return flow(settings, **options)
    work = _Work(flow)
    try:
        return as_prefect_flow(work.done)(settings, **options)
    except Exception as error:
        if work.error is not None and not _is_of_prefect(work.error):
            raise work.error from None
        if work.results and _is_staged(work.results[0]):  # Prefect raises what ends in a failed state
            return work.results[0]
        _log.warning("Prefect's server cannot be reached; the work is done without it. (%s)", redact(str(error)))
        _drop_pending_events()
    return work.results[0] if work.results else flow(settings, **options)


class _Work:
    """A flow that remembers what it came to, whatever Prefect makes of it."""

    def __init__(self, flow: Callable[..., R]) -> None:
        self.results: list[R] = []
        self.error: Exception | None = None

        @wraps(flow)
        def done(*args: Any, **options: Any) -> R:
            try:
                self.results.append(flow(*args, **options))
            except Exception as error:
                self.error = error
                raise
            return self.results[-1]

        self.done = done


def _is_of_prefect(error: BaseException) -> bool:
    """Whether it was raised because of the server, not by the work."""
    import httpx
    from prefect.exceptions import PrefectException

    return isinstance(error, httpx.HTTPError | PrefectException)


def _drop_pending_events() -> None:
    """Drop events and logs that were not sent: each is tried for 7 s, and the process ends after the last one."""
    with suppress(ImportError, AttributeError):  # Prefect has no public way: at worst the process ends later
        from prefect._internal.concurrency.services import QueueService

        for service in list(QueueService._instances.values()):
            with suppress(queue.Empty):
                while True:
                    service._queue.get_nowait()
                    service._queue.task_done()


def as_prefect_flow(flow: Callable[..., R]) -> Any:
    """The same function as a Prefect flow; its pydantic settings become the form on Prefect's page."""
    for name in (
        "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS",
        "PREFECT_TESTING_TEST_MODE_STARTUP_TIMEOUT_SECONDS",
    ):
        os.environ.setdefault(name, STARTUP_SECONDS)
    os.environ.setdefault("PREFECT_LOGGING_LEVEL", "WARNING")  # our own progress is enough on a terminal
    import prefect

    @wraps(flow)
    def with_final_state(*args: Any, **options: Any) -> Any:
        result = flow(*args, **options)
        return staged_state(result) if _is_staged(result) else result

    name = flow.__name__
    return prefect.flow(
        with_final_state, name=f"boxmine-{name}", flow_run_name=lambda: _run_name(name), persist_result=False,
        retries=0,  # a deployed flow tries again itself; a staged version is not to be tried again at all
    )  # fmt: skip


def _is_staged(result: Any) -> bool:
    return isinstance(result, LabelSummary) and result.state == "staged"


def _run_name(flow: str) -> str:
    """What a run is called while it is at work: the flow, and the recipe, corpus or folder it works on."""
    from prefect.runtime import flow_run

    given = dict(flow_run.parameters or {}).get("settings")
    values = given if isinstance(given, Mapping) else dict(given or ())
    subject = next((values[name] for name in ("recipe", "name", "out", "run", "second") if values.get(name)), None)
    return flow if subject is None else f"{flow} {Path(str(subject)).stem}"


def as_deployed_flow(flow: Callable[..., R]) -> Any:
    """The flow as a deployment runs it: settings may stand in a recipe, and what may pass is tried again."""
    signature = inspect.signature(flow)
    kind: type[Settings] = signature.parameters["settings"].annotation

    settings, *others = signature.parameters.values()
    attempts = settings.replace(name="attempts", annotation=Attempts, default=Attempts())
    form = signature.replace(parameters=[settings.replace(annotation=kind | Recipe), *others, attempts])

    @wraps(flow)
    def attempted(*args: Any, **options: Any) -> R:
        given = form.bind(*args, **options).arguments
        wanted, attempts = given.pop("settings"), given.pop("attempts", Attempts())
        with _time_limit(attempts.hours):
            if isinstance(wanted, Recipe):
                wanted = wanted.read(kind)
            return _tried(lambda: flow(wanted, **given), attempts)

    attempted.__signature__ = form  # type: ignore[attr-defined]
    return as_prefect_flow(attempted)


def _tried(work: Callable[[], R], attempts: Attempts) -> R:
    for attempt in range(attempts.tries - 1):
        try:
            return work()
        except Exception as error:
            if not is_transient_later(error):
                raise
            wait = attempts.wait_seconds * 2**attempt
            _log.warning("Try %d of %d failed, the next one in %g s: %s", attempt + 1, attempts.tries, wait, error)
            time.sleep(wait)
    return work()


def _time_limit(hours: float | None) -> AbstractContextManager[None]:
    """What takes longer is interrupted where Python stands, and ends with a TimeoutError."""
    from prefect.utilities.timeout import timeout

    return timeout(None if hours is None else hours * 3600)
