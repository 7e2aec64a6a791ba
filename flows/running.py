"""How a flow is run: in process, or under Prefect where a server is configured or asked for."""

import os
from collections.abc import Callable
from typing import Any, TypeVar

R = TypeVar("R")
STARTUP_SECONDS = "120"  # small machines need more than Prefect's own limits


def prefect_is_wanted() -> bool:
    """True where PREFECT_API_URL is set or BOXMINE_PREFECT=1 asks for the embedded server."""
    return bool(os.environ.get("PREFECT_API_URL")) or os.environ.get("BOXMINE_PREFECT") == "1"


def run_flow(flow: Callable[..., R], settings: Any, **options: Any) -> R:
    """Run a flow as this process is set up to."""
    return as_prefect_flow(flow)(settings, **options) if prefect_is_wanted() else flow(settings, **options)


def as_prefect_flow(flow: Callable[..., R]) -> Any:
    """The same function as a Prefect flow; its pydantic settings become the form on Prefect's page."""
    for name in (
        "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS",
        "PREFECT_TESTING_TEST_MODE_STARTUP_TIMEOUT_SECONDS",
    ):
        os.environ.setdefault(name, STARTUP_SECONDS)
    os.environ.setdefault("PREFECT_LOGGING_LEVEL", "WARNING")  # our own progress is enough on a terminal
    import prefect

    return prefect.flow(flow, name=f"boxmine-{flow.__name__}", persist_result=False)
