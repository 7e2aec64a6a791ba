"""Append events of a run to its log, one JSON object per line.

Lines go to `log.jsonl` in the run directory, from whichever process or machine works on it, and to the logger
`boxmine`, which Prefect forwards if PREFECT_LOGGING_EXTRA_LOGGERS names it.
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
    """Append a line to a run's log; a disk that refuses the line does not stop the work.

    Args:
        folder: The run directory.
        event: What happened, in a word or two.
        **values: JSON values, such as the shard and its number of boxes.
    """
    values = {name: redact(value) if isinstance(value, str) else value for name, value in values.items()}
    line = {"at": utc_now(), "event": event, "run": folder.name, **values, "host": platform.node(), "pid": os.getpid()}
    shown = " ".join(f"{name}={value}" for name, value in values.items() if value is not None)
    _logger.info("%s: %s %s", folder.name, event, shown)
    with suppress(OSError):
        # one short write in append mode: lines of several processes do not mix
        handle = os.open(folder / LOG_FILE, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            os.write(handle, orjson.dumps(line, default=str) + b"\n")
        finally:
            os.close(handle)
