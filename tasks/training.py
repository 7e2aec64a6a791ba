"""The task that trains a localizer, in a process of its own where needed."""

import os
import signal
import subprocess
from contextlib import suppress
from typing import Any

from mining.config import TrainSettings
from mining.errors import InputError, ProcessLostError, describe_exit_code
from mining.training.localizer_defaults import epochs_of
from mining.training.summary import TrainingSummary
from tasks.orchestration import orchestrated, step
from tasks.progress import Stage
from tasks.subprocess_worker import start_worker
from tasks.trainer import Message

_ENDING_SECONDS = 10.0  # from the last message of a process to its end


@step(name="train")
def train_localizer(settings: TrainSettings) -> TrainingSummary:
    """Fit the localizer and write the model folder; resumes an unfinished training."""
    stage = Stage("train", epochs_of(settings))
    return train_in_suitable_process(settings, progress=lambda done, total, text: stage.reach(done, total, text))


def train_in_suitable_process(
    settings: TrainSettings, progress: Any = lambda done, total, text: None
) -> TrainingSummary:
    """Run `mining.training.job.train`, in a process of its own under Prefect and for several devices.

    Under Prefect, loader workers are forked beside Prefect's threads and end with code 1, which the loader takes for a
    failure. For several devices, Lightning starts the command of the training process again for each device: that
    must be the training alone.

    Args:
        settings: What to train.
        progress: Called after each step with steps done, steps planned and a text.

    Raises:
        InputError: The command was started by torchrun, which starts all processes at once.
        ProcessLostError: The training process ended without a result.
    """
    from mining.training.distributed import is_distributed

    if "TORCHELASTIC_RUN_ID" in os.environ:
        raise InputError("A training starts one process per device by itself: run the command without torchrun.")
    if orchestrated() or is_distributed(settings):
        return _train_in_subprocess(settings, progress)
    from mining.training.job import train

    return train(settings, progress)


def _train_in_subprocess(settings: TrainSettings, progress: Any) -> TrainingSummary:
    process, connection = start_worker("tasks.trainer", settings.model_dump_json())
    try:
        while True:
            message: Message = connection.recv()
            if isinstance(message, TrainingSummary):
                with suppress(subprocess.TimeoutExpired):  # the model is written; a slow exit changes nothing
                    process.wait(_ENDING_SECONDS)
                return message
            if isinstance(message, Exception):
                raise message
            progress(*message)
    except (EOFError, ConnectionError):
        how = describe_exit_code(process.wait())
        raise ProcessLostError(f"The training process {how}. Run the same command again to resume.") from None
    finally:
        connection.close()
        with suppress(ProcessLookupError):  # no process is left in its group
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
