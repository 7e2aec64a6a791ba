"""Stop what worker threads are in the middle of."""

import threading

from mining.errors import RunStoppedError

_of_thread = threading.local()


def stop_with(event: threading.Event) -> None:
    """Let `check_stopped` end what this thread does once the event is set."""
    _of_thread.event = event


def check_stopped() -> None:
    """Raise RunStoppedError where this thread is to stop; to be called between pieces of long work."""
    event = getattr(_of_thread, "event", None)
    if event is not None and event.is_set():
        raise RunStoppedError("Stopped. What is finished is kept; run the same command again to resume.")
