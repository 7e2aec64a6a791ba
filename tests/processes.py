"""Start commands as processes, find their descendants, wait for what they do."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

# with these tests' Python, wherever its environment is
BOXMINE = (sys.executable, "-c", "from flows.cli.application import main; main()")


def start_boxmine(
    *arguments: object, environment: dict[str, str] | None = None, **options: Any
) -> "subprocess.Popen[str]":
    """Start a boxmine command; it reports to a Prefect server only where `environment` names one."""
    without_server = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_API")}
    return subprocess.Popen(
        [*BOXMINE, *map(str, arguments)], env=environment or without_server,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options,
    )  # fmt: skip


def wait_until(
    condition: Callable[[], Any], *, timeout_s: float = 60, poll_s: float = 0.01, message: Callable[[], object] = str
) -> None:
    """Poll a condition until it holds; fails the test with the message after `timeout_s`."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"Not reached within {timeout_s} s. {message()}"
        time.sleep(poll_s)


def find_descendants(ancestor: int, command_part: str) -> list[int]:
    """List the living descendants of a process whose command holds the text."""
    listed = subprocess.run(["ps", "-eo", "pid,ppid,stat,args"], capture_output=True, text=True, check=True).stdout
    rows = [line.split(maxsplit=3) for line in listed.splitlines()[1:]]
    parents = {int(pid): int(ppid) for pid, ppid, *_ in rows}

    def is_descendant(pid: int) -> bool:
        parent = parents.get(pid, 0)
        return parent == ancestor or (parent > 1 and is_descendant(parent))

    return [
        int(pid) for pid, _, state, args in rows if command_part in args and state[0] != "Z" and is_descendant(int(pid))
    ]


def wait_until_gone(processes: Iterable[int], *, timeout_s: float = 30) -> None:
    """Wait until none of the processes exists any more."""
    remaining = list(processes)

    def are_gone() -> bool:
        remaining[:] = [pid for pid in remaining if Path(f"/proc/{pid}").exists()]
        return not remaining

    wait_until(are_gone, timeout_s=timeout_s, poll_s=0.05, message=lambda: f"Processes still running: {remaining}")
