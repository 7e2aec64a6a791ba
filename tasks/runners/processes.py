"""Mine the shards in processes of this machine, each with its own GPU or its share of the cores."""

import os
import subprocess
from collections import Counter, deque
from contextlib import suppress
from multiprocessing.connection import wait

from mining.config import MineSettings
from mining.config.execution import available_cores
from mining.errors import ProcessLostError, describe_exit_code
from mining.runs.run import Run
from mining.runs.summaries import MinePlan
from tasks.progress import Stage
from tasks.runners.worker import Message
from tasks.subprocess_worker import start_worker

EXIT_TIMEOUT_S = 10.0  # from the end of a process's connection to its own


def mine_in_processes(plan: MinePlan, settings: MineSettings, stage: Stage) -> None:
    """Give each idle worker the next shard, until all are mined; no process is left, however it ends.

    A worker that dies is replaced, and the new one mines its shard.

    Raises:
        ProcessLostError: The workers of one shard died more than `settings.retries` times.
        Exception: What a worker raised.
    """
    if not plan.shards:
        return
    workers = _start_workers(plan, settings)
    try:
        _distribute(plan.shards, workers, stage, settings.retries)
    finally:
        for worker in workers:
            worker.end()


class Worker:
    """A process that mines one shard at a time.

    Args:
        run: The run.
        threads: Threads to decode and compute with.
        retries: Retries of a shard that failed.
        gpu: Its GPU, as in CUDA_VISIBLE_DEVICES.
    """

    def __init__(self, run: Run, threads: int, retries: int, gpu: str | None) -> None:
        self.shard: int | None = None
        self.images_done = 0  # of its shard
        self._arguments = (run, threads, retries, gpu)
        self.start()

    def start(self) -> None:
        """Start the process."""
        run, threads, retries, gpu = self._arguments
        # set before the process starts: torch reads it only once
        environment = {"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", str(threads))}
        if gpu is not None:
            environment["CUDA_VISIBLE_DEVICES"] = gpu
        self._process, self.connection = start_worker(
            "tasks.runners.worker", str(run.path), str(threads), str(retries), **environment
        )

    def begin(self, shard: int) -> None:
        """Have it mine a shard."""
        self.shard, self.images_done = shard, 0
        with suppress(ConnectionError):  # it has died, which `receive` will report
            self.connection.send(shard)

    def receive(self) -> Message:
        """Return its next message. Raises EOFError if it has died."""
        try:
            message: Message = self.connection.recv()
        except ConnectionError:
            raise EOFError from None
        return message

    def end(self, timeout_s: float = 0.0) -> int:
        """Kill the process unless it ends by itself within `timeout_s`; returns its exit code."""
        self.connection.close()
        with suppress(subprocess.TimeoutExpired):
            return self._process.wait(timeout_s)
        self._process.kill()
        return self._process.wait()


def _start_workers(plan: MinePlan, settings: MineSettings) -> list[Worker]:
    from mining.models.device import visible_gpus

    gpus: list[str | None] = list(visible_gpus(settings.device)) or [None]
    count = min(settings.runner_workers or len(gpus), len(plan.shards))
    threads = settings.cpus_per_worker or max(1, available_cores() // count)
    return [Worker(plan.run, threads, settings.retries, gpus[number % len(gpus)]) for number in range(count)]


def _distribute(shards: list[int], workers: list[Worker], stage: Stage, retries: int) -> None:
    open_shards, deaths = deque(shards), Counter[int]()
    for worker in workers:
        worker.begin(open_shards.popleft())
    while busy := {worker.connection: (worker, worker.shard) for worker in workers if worker.shard is not None}:
        for connection in wait(list(busy)):
            worker, shard = busy[connection]  # type: ignore[index]
            try:
                message = worker.receive()
            except EOFError:
                deaths[shard] += 1
                _check_deaths_of_shard(shard, worker.end(EXIT_TIMEOUT_S), deaths[shard], retries)
                stage.advance(-worker.images_done)
                worker.start()
                worker.begin(shard)
                continue
            if isinstance(message, Exception):
                raise message
            if message is not None:
                worker.images_done += message
                stage.advance(message)
            elif open_shards:
                worker.begin(open_shards.popleft())
            else:
                worker.shard = None


def _check_deaths_of_shard(shard: int, code: int, deaths: int, retries: int) -> None:
    if deaths <= retries:
        return
    raise ProcessLostError(
        f"The process that mined shard {shard} {describe_exit_code(code)}, {deaths} times in all. If memory is short, "
        "give fewer --runner-workers or a smaller --batch-size. Run the same command again to resume."
    )
