"""A process that trains: `python -m tasks.trainer CONNECTION SETTINGS`, the settings as JSON.

It sends its progress (done, total, text) over the connection, and at last the result: a TrainingSummary, or the
exception that ended it. For each further device Lightning runs this command again; those processes send nothing. All of
them end when the connection is closed at the other end.
"""

import os
import signal
import sys
from multiprocessing.connection import Connection
from threading import Thread

from mining.config import TrainSettings
from mining.training.summary import TrainingSummary
from tasks.subprocess_worker import make_picklable

Message = tuple[int, int, str] | TrainingSummary | Exception


def main(descriptor: int, settings: TrainSettings) -> None:
    """Train, sending progress and result.

    Args:
        descriptor: File descriptor of the connection.
        settings: What to train.
    """
    from mining.training.distributed import is_rank_zero
    from mining.training.job import train

    if not is_rank_zero():
        train(settings)
        return
    connection = Connection(descriptor)
    Thread(target=_exit_when_closed, args=(connection,), daemon=True).start()
    last: Message
    try:
        last = train(settings, progress=lambda done, total, text: connection.send((done, total, text)))
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
    main(int(sys.argv[1]), TrainSettings.model_validate_json(sys.argv[2]))
