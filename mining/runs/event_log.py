"""What happened when, a JSON object a line, with the run and the shard it happened to.

Lines go to `log.jsonl` in the run directory, from whichever process or machine works on it, and to the logger
`boxmine`, which Prefect takes up where PREFECT_LOGGING_EXTRA_LOGGERS names it.
"""

import logging
import os
import platform
from contextlib import suppress
from pathlib import Path
from typing import Any

import orjson

from mining.redaction import redact
from mining.runs.run import LOG_FILE
from mining.storage.provenance import utc_now

_logger = logging.getLogger("boxmine")


def log_event(folder: Path, event: str, **values: Any) -> None:
    """Append a line to the log of the run `folder`. event: what happened, in a word or two; values: plain ones.

    A disk that takes no line does not stop the work.
    """
    values = {name: redact(value) if isinstance(value, str) else value for name, value in values.items()}
    line = {"at": utc_now(), "event": event, "run": folder.name, **values, "host": platform.node(), "pid": os.getpid()}
    told = {name: value for name, value in values.items() if value is not None}
    _logger.info("%s: %s %s", folder.name, event, " ".join(f"{name}={value}" for name, value in told.items()))
    with suppress(OSError):
        # one write of a short line to the end: lines of several processes do not mix
        handle = os.open(folder / LOG_FILE, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            os.write(handle, orjson.dumps(line, default=str) + b"\n")
        finally:
            os.close(handle)
