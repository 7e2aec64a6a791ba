"""Python processes of our own, with a connection to each."""

import os
import pickle
import subprocess
import sys
import traceback
from collections.abc import Mapping
from multiprocessing import Pipe
from multiprocessing.connection import Connection


def start_worker(module: str, *arguments: str, **environment: str) -> tuple["subprocess.Popen[bytes]", Connection]:
    """Start `python -m module CONNECTION ARGUMENTS`, which finds what this process finds; gives our end, too.

    CONNECTION: the number of a file descriptor. environment: variables that it has besides this process's own. It has
    a session of its own: Ctrl-C on a terminal is this process's to answer.
    """
    ours, its = Pipe()
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", module, str(its.fileno()), *arguments],
        env=_environment(environment), stdin=subprocess.DEVNULL, pass_fds=[its.fileno()], start_new_session=True,
    )  # fmt: skip
    its.close()
    return process, ours


def _environment(more: Mapping[str, str]) -> dict[str, str]:
    roots = os.pathsep.join(root or os.getcwd() for root in sys.path)
    return {**os.environ, **more, "PYTHONPATH": roots, "PYTHONSAFEPATH": "1"}


def make_picklable(error: Exception) -> Exception:
    """The error with where it came from, or its words where it cannot be sent."""
    error.add_note(f"In worker process {os.getpid()}:\n{traceback.format_exc()}")
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:  # whatever its class does not allow
        return RuntimeError("".join(traceback.format_exception(error)))
    return error
