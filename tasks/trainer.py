"""A process that trains: `python -m tasks.trainer CONNECTION SETTINGS`, the settings as JSON.

It writes how far it is (done, total, text) to the connection, and last what it came to: a TrainingSummary, or the
exception that ended it. For each further device Lightning has this very command run once more; those processes say
nothing. All of them end when nobody is at the other end.
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
    """Train, and tell."""
    from mining.training.distributed import is_rank_zero
    from mining.training.job import train

    if not is_rank_zero():
        train(settings)
        return
    connection = Connection(descriptor)
    Thread(target=_end_with, args=(connection,), daemon=True).start()
    last: Message
    try:
        last = train(settings, progress=lambda done, total, text: connection.send((done, total, text)))
    except Exception as error:
        last = make_picklable(error)
    connection.send(last)


def _end_with(connection: Connection) -> None:
    """Wait until nobody is at the other end any more, and take this process and those it has started along."""
    try:
        connection.recv()
    except (EOFError, ConnectionError):
        os.killpg(0, signal.SIGKILL)  # an epoch that is begun is lost, and only that


if __name__ == "__main__":
    main(int(sys.argv[1]), TrainSettings.model_validate_json(sys.argv[2]))
