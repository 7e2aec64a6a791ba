"""Processes of this machine mine the shards, each with a GPU of its own or its share of the cores."""

import os
import subprocess
from collections import Counter, deque
from contextlib import suppress
from multiprocessing.connection import wait
from pathlib import Path

from mining.config import MineSettings
from mining.config.execution import available_cores
from mining.errors import ProcessLostError, describe_exit_code
from mining.runs.summaries import MinePlan
from tasks.progress import Stage
from tasks.runners.worker import Message
from tasks.subprocess_worker import start_worker

EXIT_TIMEOUT_S = 10.0  # from the end of a process's connection to its own


def mine_in_processes(plan: MinePlan, settings: MineSettings, stage: Stage) -> None:
    """Give each worker a shard whenever it has none.

    A worker that dies is replaced, and its shard mined by the next. Raises ProcessLostError where that has not helped
    `settings.retries` times, and what a worker raised. No process is left, however it ends.
    """
    if not plan.shards:
        return
    workers = _start_workers(plan, settings)
    try:
        _share_out(plan.shards, workers, stage, settings.retries)
    finally:
        for worker in workers:
            worker.end()


class Worker:
    """A process that mines one shard at a time.

    threads: that it decodes and computes with. retries: of a shard that failed. gpu: as CUDA_VISIBLE_DEVICES calls it.
    """

    def __init__(self, run: Path, threads: int, retries: int, gpu: str | None) -> None:
        self.shard: int | None = None
        self.told = 0  # images of its shard that are done
        self._asked = (run, threads, retries, gpu)
        self.start()

    def start(self) -> None:
        """Start the process."""
        run, threads, retries, gpu = self._asked
        # set before the process starts: torch looks at it only once
        environment = {"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", str(threads))}
        if gpu is not None:
            environment["CUDA_VISIBLE_DEVICES"] = gpu
        self._process, self.connection = start_worker(
            "tasks.runners.worker", str(run), str(threads), str(retries), **environment
        )

    def begin(self, shard: int) -> None:
        """Have it mine a shard."""
        self.shard, self.told = shard, 0
        with suppress(ConnectionError):  # it has died, which `hear` will tell
            self.connection.send(shard)

    def hear(self) -> Message:
        """Its next message; raises EOFError where it has died."""
        try:
            message: Message = self.connection.recv()
        except ConnectionError:
            raise EOFError from None
        return message

    def end(self, patience: float = 0.0) -> int:
        """Kill the process, where it has not ended by itself after so many seconds; gives its exit code."""
        self.connection.close()
        with suppress(subprocess.TimeoutExpired):
            return self._process.wait(patience)
        self._process.kill()
        return self._process.wait()


def _start_workers(plan: MinePlan, settings: MineSettings) -> list[Worker]:
    from mining.models.device import visible_gpus

    gpus: list[str | None] = list(visible_gpus(settings.device)) or [None]
    count = min(settings.runner_workers or len(gpus), len(plan.shards))
    threads = settings.cpus_per_worker or max(1, available_cores() // count)
    return [Worker(plan.run, threads, settings.retries, gpus[number % len(gpus)]) for number in range(count)]


def _share_out(shards: list[int], workers: list[Worker], stage: Stage, retries: int) -> None:
    left, deaths = deque(shards), Counter[int]()
    for worker in workers:
        worker.begin(left.popleft())
    while busy := {worker.connection: (worker, worker.shard) for worker in workers if worker.shard is not None}:
        for connection in wait(list(busy)):
            worker, shard = busy[connection]  # type: ignore[index]
            try:
                message = worker.hear()
            except EOFError:
                deaths[shard] += 1
                _check_deaths_of_shard(shard, worker.end(EXIT_TIMEOUT_S), deaths[shard], retries)
                stage.advance(-worker.told)
                worker.start()
                worker.begin(shard)
                continue
            if isinstance(message, Exception):
                raise message
            if message is not None:
                worker.told += message
                stage.advance(message)
            elif left:
                worker.begin(left.popleft())
            else:
                worker.shard = None


def _check_deaths_of_shard(shard: int, code: int, deaths: int, retries: int) -> None:
    if deaths <= retries:
        return
    raise ProcessLostError(
        f"The process that mined shard {shard} {describe_exit_code(code)}, {deaths} times in all. Where memory is "
        "short, give fewer --runner-workers or a smaller --batch-size. Run the same command again to resume."
    )
