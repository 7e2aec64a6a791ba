"""Run a flow: in process, or under Prefect if a server is configured or asked for."""

import inspect
import logging
import os
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from functools import wraps
from pathlib import Path
from typing import Any, Generic, TypeVar

from mining import preflight
from mining.config import Attempts, Recipe, Settings
from mining.label_store.summaries import LabelSummary
from mining.redaction import redact
from mining.runs.retries import is_transient_later, retry
from tasks.labelling import staged_state

R = TypeVar("R")
STARTUP_TIMEOUT_S = "120"  # small machines need more than Prefect's own limits
_log = logging.getLogger(__name__)
_lost_servers: list[str] = []  # why each flow run of this process went on without its server


def prefect_is_wanted() -> bool:
    """Return whether PREFECT_API_URL is set, or BOXMINE_PREFECT=1 asks for the embedded server."""
    return bool(os.environ.get("PREFECT_API_URL")) or os.environ.get("BOXMINE_PREFECT") == "1"


def server_was_lost() -> bool:
    """Return whether a flow of this process had to go on without its Prefect server.

    Prefect's exit handlers then try to send each pending event for several seconds.
    """
    return bool(_lost_servers)


def run_flow(flow: Callable[..., R], settings: Any, *, checks: bool = True, **options: Any) -> R:
    """Run a flow in process or under Prefect; a server that cannot be reached costs no work.

    Args:
        flow: The flow, a plain function.
        settings: Its settings. What is wrong in them is reported, if possible, before Prefect or a network library is
            imported.
        checks: False for a flow that needs none of the images and models that the settings name.
        **options: Further arguments of the flow.

    Returns:
        What the flow returns.
    """
    if checks:
        preflight.check(settings)
    if not prefect_is_wanted():
        return flow(settings, **options)
    recorder = _Recorder(flow)
    try:
        return as_prefect_flow(recorder.flow)(settings, **options)
    except Exception as error:
        if recorder.error is not None and not _is_prefect_error(recorder.error):
            raise recorder.error from None
        if recorder.results and _is_staged(recorder.results[0]):  # Prefect raises what ends in a failed state
            return recorder.results[0]
        _log.warning("Prefect's server cannot be reached; the work is done without it. (%s)", redact(str(error)))
        _lost_servers.append(redact(str(error)))
    return recorder.results[0] if recorder.results else flow(settings, **options)


class _Recorder(Generic[R]):
    """A flow that keeps its result or its error, whatever Prefect makes of it."""

    def __init__(self, flow: Callable[..., R]) -> None:
        self.results: list[R] = []
        self.error: Exception | None = None

        @wraps(flow)
        def recorded(*args: Any, **options: Any) -> R:
            try:
                self.results.append(flow(*args, **options))
            except Exception as error:
                self.error = error
                raise
            return self.results[-1]

        self.flow = recorded


def _is_prefect_error(error: BaseException) -> bool:
    """Return whether an error is due to the server rather than the work."""
    import httpx
    from prefect.exceptions import PrefectException

    return isinstance(error, httpx.HTTPError | PrefectException)


def as_prefect_flow(flow: Callable[..., R]) -> Any:
    """Return the function as a Prefect flow; its pydantic settings become the form in Prefect's UI."""
    for name in (
        "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS",
        "PREFECT_TESTING_TEST_MODE_STARTUP_TIMEOUT_SECONDS",
    ):
        os.environ.setdefault(name, STARTUP_TIMEOUT_S)
    os.environ.setdefault("PREFECT_LOGGING_LEVEL", "WARNING")  # our own progress is enough on a terminal
    import prefect

    @wraps(flow)
    def with_final_state(*args: Any, **options: Any) -> Any:
        result: Any = flow(*args, **options)
        return staged_state(result) if _is_staged(result) else result

    name = flow.__name__
    return prefect.flow(
        name=f"boxmine-{name}", flow_run_name=lambda: _run_name(name), persist_result=False,
        retries=0,  # a deployed flow retries by itself; a staged version must not be retried at all
    )(with_final_state)  # fmt: skip


def _is_staged(result: object) -> bool:
    return isinstance(result, LabelSummary) and result.state == "staged"


def _run_name(flow: str) -> str:
    """Return the name of a flow run while it works: the flow, and its recipe, corpus or folder."""
    from prefect.runtime import flow_run

    settings = dict(flow_run.parameters or {}).get("settings")
    values = settings if isinstance(settings, Mapping) else dict(settings or ())
    subject = next((values[name] for name in ("recipe", "name", "out", "run", "second") if values.get(name)), None)
    return flow if subject is None else f"{flow} {Path(str(subject)).stem}"


def as_deployed_flow(flow: Callable[..., R]) -> Any:
    """Return the flow as a deployment runs it: settings or a recipe, with retries after transient errors."""
    signature = inspect.signature(flow)
    kind: type[Settings] = signature.parameters["settings"].annotation

    settings, *others = signature.parameters.values()
    attempts = settings.replace(name="attempts", annotation=Attempts, default=Attempts())
    form = signature.replace(parameters=[settings.replace(annotation=kind | Recipe), *others, attempts])

    @wraps(flow)
    def attempted(*args: Any, **options: Any) -> R:
        arguments = form.bind(*args, **options).arguments
        settings, attempts = arguments.pop("settings"), arguments.pop("attempts", Attempts())
        with _time_limit(attempts.hours):
            if isinstance(settings, Recipe):
                settings = settings.read(kind)
            return retry(
                lambda: flow(settings, **arguments), tries=attempts.tries, pause_s=attempts.wait_seconds, backoff=2.0,
                is_worth_retrying=is_transient_later,
            )  # fmt: skip

    attempted.__signature__ = form  # type: ignore[attr-defined]
    return as_prefect_flow(attempted)


def _time_limit(hours: float | None) -> AbstractContextManager[None]:
    """Interrupt what takes longer with a TimeoutError."""
    from prefect.utilities.timeout import timeout

    return timeout(None if hours is None else hours * 3600)
