"""A process that mines shards: `python -m tasks.runners.worker CONNECTION RUN THREADS RETRIES`.

It reads numbers of shards from the connection (a file descriptor). For each it writes the number of images done since
the last message, as often as that changes, and then None, or the exception that ended it. It ends when the process at
the other end does.
"""

import sys
from multiprocessing.connection import Connection
from pathlib import Path

from mining.runs.retries import RETRY_PAUSE_S, retry
from mining.runs.run import Run
from tasks.subprocess_worker import make_picklable

Message = int | None | Exception


def main(connection: Connection, run: Run, threads: int, retries: int) -> None:
    """Mine shards until the connection ends."""
    from mining.runs.shard_mining import mine_shard

    def send(message: Message) -> None:
        try:
            connection.send(message)
        except ConnectionError:  # the process at the other end was killed
            sys.exit()

    def mine(shard: int) -> None:
        mine_shard(run, shard, send, threads=threads)

    while True:
        try:
            shard = connection.recv()
        except (EOFError, ConnectionError):
            return
        try:
            retry(mine, shard, tries=retries + 1, pause_s=RETRY_PAUSE_S)
        except Exception as error:
            send(make_picklable(error))
        else:
            send(None)


if __name__ == "__main__":
    descriptor, folder, threads, retries = sys.argv[1:]
    main(Connection(int(descriptor)), Run(Path(folder)), int(threads), int(retries))
