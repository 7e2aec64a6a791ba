"""A process that trains: `python -m tasks.trainer CONNECTION JOB ARGUMENTS`.

It sends its progress (done, total, text) over the connection, and at last the result of the job, or the exception that
ended it. For each further device Lightning runs this command again; those processes send nothing. All of them end when
the connection is closed at the other end.
"""

import os
import signal
import sys
from collections.abc import Callable
from multiprocessing.connection import Connection
from threading import Thread
from typing import Any

from tasks.subprocess_worker import make_picklable

Progress = Callable[[int, int, str], None]
Job = Callable[..., Any]


def train_localizer(progress: Progress, settings: str) -> Any:
    """Train a localizer; the settings are JSON. Returns a TrainingSummary."""
    from mining.config import TrainSettings
    from mining.training.job import train

    return train(TrainSettings.model_validate_json(settings), progress)


def train_detector_of_round(progress: Progress, settings: str, number: str) -> Any:
    """Train the detector of a bootstrap's round; the settings are JSON. Returns the number of its boxes."""
    from mining.bootstrap.rounds import train_on_run
    from mining.config.bootstrap import BootstrapSettings

    return train_on_run(BootstrapSettings.model_validate_json(settings), int(number), progress)


def train_detector_of_proof(progress: Progress, settings: str, name: str) -> Any:
    """Train a detector of a proof; the settings are JSON. Returns the number of its boxes."""
    from mining.config.proof import ProofSettings
    from mining.proof.job import train_on_boxes
    from mining.proof.trainings import plan_trainings

    proof = ProofSettings.model_validate_json(settings)
    (training,) = (one for one in plan_trainings(proof) if one.name == name)
    return train_on_boxes(proof, training, progress)


JOBS: dict[str, Job] = {
    job.__name__: job for job in (train_localizer, train_detector_of_round, train_detector_of_proof)
}


def main(descriptor: int, job: Job, *arguments: str) -> None:
    """Do a job, sending progress and result.

    Args:
        descriptor: File descriptor of the connection.
        job: One of JOBS.
        *arguments: What it gets besides the progress.
    """
    from mining.training.distributed import is_rank_zero

    if not is_rank_zero():
        job(lambda done, total, text: None, *arguments)
        return
    connection = Connection(descriptor)
    Thread(target=_exit_when_closed, args=(connection,), daemon=True).start()
    last: Any
    try:
        last = job(lambda done, total, text: connection.send((done, total, text)), *arguments)
    except Exception as error:
        last = make_picklable(error)
    connection.send(last)


def _exit_when_closed(connection: Connection) -> None:
    """Wait until the connection is closed, then kill this process and those that it started."""
    try:
        connection.recv()
    except (EOFError, ConnectionError):
        os.killpg(0, signal.SIGKILL)  # only the current epoch is lost


if __name__ == "__main__":
    main(int(sys.argv[1]), JOBS[sys.argv[2]], *sys.argv[3:])
