"""Train a localizer."""

import os
import signal
import subprocess
from contextlib import suppress
from typing import Any

from mining.config import TrainSettings
from mining.errors import InputError, ProcessLostError, describe_exit_code
from mining.training.summary import TrainingSummary
from tasks.orchestration import orchestrated, step
from tasks.progress import Stage
from tasks.subprocess_worker import start_worker
from tasks.trainer import Message

_ENDING_SECONDS = 10.0  # from what a process says last to its end


@step(name="train")
def train_localizer(settings: TrainSettings) -> TrainingSummary:
    """Fit the localizer and write the model folder; an unfinished training is carried on."""
    stage = Stage("train", settings.epochs)
    return train_in_suitable_process(settings, progress=lambda done, total, text: stage.reach(done, total, text))


def train_in_suitable_process(
    settings: TrainSettings, progress: Any = lambda done, total, text: None
) -> TrainingSummary:
    """What `mining.training.job.train` does, in a process of its own where that matters.

    Under Prefect, because processes that feed a training, forked beside Prefect's threads, end with code 1, which the
    loader takes for a failure. On several devices, because Lightning's launcher has the command of the process that
    trains run once more for each: that must be the training and nothing else. Raises InputError under torchrun, which
    starts them all at once, before there is anything to share.
    """
    from mining.training.distributed import is_distributed

    if "TORCHELASTIC_RUN_ID" in os.environ:
        raise InputError("A training starts a process a device itself: give the command without torchrun.")
    if orchestrated() or is_distributed(settings):
        return _trained_apart(settings, progress)
    from mining.training.job import train

    return train(settings, progress)


def _trained_apart(settings: TrainSettings, progress: Any) -> TrainingSummary:
    process, connection = start_worker("tasks.trainer", settings.model_dump_json())
    try:
        while True:
            message: Message = connection.recv()
            if isinstance(message, TrainingSummary):
                with suppress(subprocess.TimeoutExpired):  # the model is written; a slow ending changes nothing
                    process.wait(_ENDING_SECONDS)
                return message
            if isinstance(message, Exception):
                raise message
            progress(*message)
    except (EOFError, ConnectionError):
        how = describe_exit_code(process.wait())
        raise ProcessLostError(f"The process that trained {how}. The same command carries on.") from None
    finally:
        connection.close()
        with suppress(ProcessLookupError):  # nobody is left in its group
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
