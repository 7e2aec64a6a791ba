"""Retry after transient errors."""

import logging
import time
from collections.abc import Callable
from typing import Any, TypeVar

from mining.errors import BoxmineError, ProcessLostError, StorageError

R = TypeVar("R")
_log = logging.getLogger(__name__)
RETRY_PAUSE_S = 5  # before a shard that failed is mined again


def retry(
    function: Callable[..., R],
    *args: Any,
    tries: int,
    pause_s: float,
    backoff: float = 1.0,
    is_worth_retrying: Callable[[BaseException], bool] | None = None,
) -> R:
    """Call a function until it succeeds, at most `tries` times.

    Args:
        function: What to call, with `args`.
        *args: Its arguments.
        tries: Calls in all.
        pause_s: Seconds before the second call.
        backoff: Each further pause is so many times as long.
        is_worth_retrying: Whether to retry after an error; by default `is_transient`.

    Raises:
        Exception: What the last call raised, or an earlier one that is not worth retrying.
    """
    for attempt in range(1, tries):
        try:
            return function(*args)
        except Exception as error:
            if not (is_worth_retrying or is_transient)(error):
                raise
            pause = pause_s * backoff ** (attempt - 1)
            _log.warning("Try %d of %d failed; the next one follows in %g s: %s", attempt, tries, pause, error)
            time.sleep(pause)
    return function(*args)


def is_transient(error: BaseException) -> bool:
    """Return whether a retry may help: not for errors that boxmine raises on purpose, which name a remedy."""
    return not isinstance(error, BoxmineError)


def is_transient_later(error: BaseException) -> bool:
    """Return whether a retry some time later may help: also for a full disk or a killed process."""
    return is_transient(error) or isinstance(error, StorageError | ProcessLostError)
