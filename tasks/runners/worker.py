"""A process that mines the shards it is told of: `python -m tasks.runners.worker CONNECTION RUN THREADS RETRIES`.

It reads numbers of shards from the connection (a file descriptor), and writes how many images are done since the last
message, then None for the shard's end or the exception that ended it. It ends when nobody is at the other end.
"""

import os
import pickle
import sys
import traceback
from multiprocessing.connection import Connection
from pathlib import Path

from tasks.orchestration import PAUSE_SECONDS, tried

Message = int | None | Exception


def main(connection: Connection, run: Path, threads: int, retries: int) -> None:
    """Mine until the connection ends."""
    from mining.engine import mine_shard

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
            tried(mine, shard, tries=retries + 1, pause=PAUSE_SECONDS)
        except Exception as error:
            tell(_that_travels(error))
        else:
            tell(None)


def _that_travels(error: Exception) -> Exception:
    """The error with where it came from, or its words where it cannot be sent."""
    error.add_note(f"In worker process {os.getpid()}:\n{traceback.format_exc()}")
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:  # whatever its class does not allow
        return RuntimeError("".join(traceback.format_exception(error)))
    return error


if __name__ == "__main__":
    descriptor, folder, threads, retries = sys.argv[1:]
    main(Connection(int(descriptor)), Path(folder), int(threads), int(retries))
