"""Start Python processes that talk to this one over a connection."""

import os
import pickle
import subprocess
import sys
import traceback
from collections.abc import Mapping
from multiprocessing import Pipe
from multiprocessing.connection import Connection


def start_worker(module: str, *arguments: str, **environment: str) -> tuple["subprocess.Popen[bytes]", Connection]:
    """Start `python -m MODULE CONNECTION ARGUMENTS` with this process's import path.

    The process has its own session, so that Ctrl-C on a terminal reaches this process alone.

    Args:
        module: The module to run.
        *arguments: Its arguments after the first, which is the file descriptor of the connection.
        **environment: Variables besides this process's own.

    Returns:
        The process, and this process's end of the connection.
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
    """Return the error with its traceback as a note, or a RuntimeError with its text if it cannot be pickled."""
    error.add_note(f"In worker process {os.getpid()}:\n{traceback.format_exc()}")
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:  # its class may raise anything
        return RuntimeError("".join(traceback.format_exception(error)))
    return error
