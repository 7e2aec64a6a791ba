"""A process that mines the shards it is told of: `python -m tasks.runners.worker CONNECTION RUN THREADS RETRIES`.

It reads numbers of shards from the connection (a file descriptor), and writes how many images are done since the last
message, then None for the shard's end or the exception that ended it. It ends when nobody is at the other end.
"""

import sys
from multiprocessing.connection import Connection
from pathlib import Path

from tasks.orchestration import PAUSE_SECONDS, retry
from tasks.subprocess_worker import make_picklable

Message = int | None | Exception


def main(connection: Connection, run: Path, threads: int, retries: int) -> None:
    """Mine until the connection ends."""
    from mining.runs.shard_mining import mine_shard

    def tell(message: Message) -> None:
        try:
            connection.send(message)
        except ConnectionError:  # whoever asked for it was killed
            sys.exit()

    def mine(shard: int) -> None:
        mine_shard(run, shard, tell, threads=threads)

    while True:
        try:
            shard = connection.recv()
        except (EOFError, ConnectionError):
            return
        try:
            retry(mine, shard, tries=retries + 1, pause=PAUSE_SECONDS)
        except Exception as error:
            tell(make_picklable(error))
        else:
            tell(None)


if __name__ == "__main__":
    descriptor, folder, threads, retries = sys.argv[1:]
    main(Connection(int(descriptor)), Path(folder), int(threads), int(retries))
