"""Train in a process of its own, from which Lightning starts one process for each further device."""

import os
import signal
import subprocess
from contextlib import suppress
from typing import Any

from mining.errors import InputError, ProcessLostError, describe_exit_code
from tasks.subprocess_worker import start_worker
from tasks.trainer import Job, Progress

_ENDING_SECONDS = 10.0  # from the last message of a process to its end


def refuse_torchrun() -> None:
    """Raise InputError if the command was started by torchrun, which starts all processes at once."""
    if "TORCHELASTIC_RUN_ID" in os.environ:
        raise InputError("A training starts one process per device by itself: run the command without torchrun.")


def train_in_subprocess(job: Job, *arguments: str, progress: Progress) -> Any:
    """Run a job of `tasks.trainer` in a process of its own; no process of it is left at the end.

    For several devices, Lightning starts the command of the training process again for each device: that must be the
    training alone.

    Args:
        job: One of `tasks.trainer.JOBS`.
        *arguments: Its arguments besides the progress.
        progress: Called after each step with steps done, steps planned and a text.

    Returns:
        What the job returns.

    Raises:
        ProcessLostError: The training process ended without a result.
    """
    process, connection = start_worker("tasks.trainer", job.__name__, *arguments)
    try:
        while True:
            message = connection.recv()
            if isinstance(message, Exception):
                raise message
            if not isinstance(message, tuple):
                with suppress(subprocess.TimeoutExpired):  # the model is written; a slow exit changes nothing
                    process.wait(_ENDING_SECONDS)
                return message
            progress(*message)
    except (EOFError, ConnectionError):
        how = describe_exit_code(process.wait())
        raise ProcessLostError(f"The training process {how}. Run the same command again to resume.") from None
    finally:
        connection.close()
        with suppress(ProcessLookupError):  # no process is left in its group
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
