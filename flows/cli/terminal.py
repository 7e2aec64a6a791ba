"""Output on a terminal: a progress bar (plain lines if stderr is no terminal), messages, tables."""

import logging
import os
import sys
import threading
import time
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Table

from mining.redaction import redact
from tasks.progress import listen


class _RedactingConsole(Console):
    """A console that prints addresses without their passwords."""

    def print(self, *words: Any, **options: Any) -> None:
        super().print(*(redact(word) if isinstance(word, str) else word for word in words), **options)


# under DDP the same command runs once per device; only the first process prints
err = _RedactingConsole(
    stderr=True, highlight=False, soft_wrap=True, markup=False,  # names may have brackets
    quiet=os.environ.get("LOCAL_RANK", "0") != "0",
)  # fmt: skip
# set by the signal handler: Python drops an exception that a handler raises inside a finalizer or callback, so that the
# next report of progress has to raise it again
interrupt_requested = threading.Event()
_LINE_EVERY_SECONDS = 10.0
_WIDTH_IN_FILES = 200


class _WarningLines(logging.Handler):
    """Prints what the library warns of while it works, above the progress bar."""

    def emit(self, record: logging.LogRecord) -> None:
        err.print(f"Warning: {record.getMessage()}")


class ProgressView:
    """Context manager that shows the stages of a job, and warnings during it, on stderr."""

    def __init__(self) -> None:
        columns = (TextColumn("{task.description:>6}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        self._bar = Progress(*columns, TextColumn("{task.fields[text]}"), console=err)
        self._stages: dict[str, TaskID] = {}
        self._last_line = 0.0
        self._warnings = _WarningLines(logging.WARNING)

    def __enter__(self) -> "ProgressView":
        listen(self._update)
        logging.getLogger("mining").addHandler(self._warnings)
        if err.is_terminal:
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        logging.getLogger("mining").removeHandler(self._warnings)
        if err.is_terminal:
            self._bar.stop()

    def _update(self, stage: str, done: int, total: int, text: str) -> None:
        if interrupt_requested.is_set():
            raise KeyboardInterrupt
        show = self._bar_update if err.is_terminal else self._line
        show(stage, done, total, text)

    def _bar_update(self, stage: str, done: int, total: int, text: str) -> None:
        if stage not in self._stages:
            self._stages[stage] = self._bar.add_task(stage, total=total, text=text)
        self._bar.update(self._stages[stage], completed=done, total=total, text=text)

    def _line(self, stage: str, done: int, total: int, text: str) -> None:
        now = time.monotonic()
        if done >= total or now - self._last_line >= _LINE_EVERY_SECONDS:
            self._last_line = now
            err.print(f"{stage}: {done} of {total}" + (f", {text}" if text else ""))


def print_table(rows: Sequence[tuple[str, ...]], headings: tuple[str, ...]) -> None:
    """Print a table on stdout; each row has as many cells as there are headings."""
    table = Table(*headings, box=None, pad_edge=False)
    for row in rows:
        table.add_row(*map(redact, row))
    Console(highlight=False, width=None if sys.stdout.isatty() else _WIDTH_IN_FILES).print(table)
