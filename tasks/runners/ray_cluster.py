"""Mine the shards on a Ray cluster: one shard per task, one model per worker process.

Images and run directory must lie on a file system that all nodes mount at the same place, and boxmine must be installed
on them. Under Prefect each shard is a task run that the server shows (prefect-ray).
"""

import logging
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")

import ray
from ray.exceptions import RayError, RayTaskError

from mining.config import MineSettings
from mining.config.execution import available_cores
from mining.errors import InputError, ProcessLostError, RunError
from mining.runs.retries import RETRY_PAUSE_S, retry
from mining.runs.run import Run
from mining.runs.summaries import MinePlan
from tasks.orchestration import orchestrated, step
from tasks.progress import Stage

_MAX_CPUS_PER_GPU = 8  # by default: as many threads as the engine uses
_OBJECT_STORE_BYTES = 100_000_000  # for a local cluster: tasks return numbers only
_CONNECT_TIMEOUT_S = 10.0
_LEAVE_VISIBLE = "RAY_EXPERIMENTAL_NOSET_CUDA_VISIBLE_DEVICES"
Submit = Callable[[int], tuple[Any, Callable[[], int]]]


@step(name="mine shard", retry_delay_seconds=RETRY_PAUSE_S)
def mine_shard(shard: int, run: Run, device: str, threads: int) -> int:
    """Mine one shard on the node of the cluster that calls it.

    Args:
        shard: Number of the shard.
        run: The run.
        device: Device as in the settings; cuda for the GPU that Ray assigned.
        threads: Threads to decode and compute with.

    Returns:
        The number of images.

    Raises:
        RunError: The node does not see the files.
    """
    from mining.runs.shard_mining import mine_shard as mine

    check_node_sees_files(run, ray.util.get_node_ip_address())  # type: ignore[no-untyped-call]
    return len(mine(run, shard, device=_assigned_gpu() if device == "cuda" else device, threads=threads))


def mine_on_ray(plan: MinePlan, settings: MineSettings, stage: Stage) -> None:
    """Mine the shards on a cluster; no more tasks wait than there are workers.

    Ray repeats tasks that it lost with a worker or a node, at most `settings.retries` times per shard.

    Raises:
        InputError: There is no such cluster, or no room in it.
        ProcessLostError: A shard was lost too often.
        Exception: What a task raised.
    """
    if not plan.shards:
        return
    with _connected(settings):
        options, device, threads = _worker_resources(settings)
        arguments = (Run(plan.run.path.resolve()), device, threads)
        with _submitter(arguments, options, settings.retries) as submit:
            _mine_in_window(plan.shards, submit, partial(_window, settings, options), stage)


# --- on the cluster's nodes ------------------------------------------------------------------------------------------


def check_node_sees_files(run: Run, node: str) -> None:
    """Raise RunError if this machine does not see the run directory or the images, or sees an empty folder."""
    missing = None
    if not run.has_started():
        missing = run.path
    elif not _holds_files(run.settings.images):
        missing = run.settings.images
    if missing is not None:
        raise RunError(
            f"The Ray node {node} does not see {missing}: images and run directory must lie on a file system that all "
            "nodes of the cluster mount at the same place."
        )


def _holds_files(folder: Path) -> bool:
    try:
        with os.scandir(folder) as entries:  # an empty folder may be a mount point without a mount
            return any(True for _ in entries)
    except OSError:
        return False


def _assigned_gpu() -> str:
    """Return the task's GPU by torch's number.

    A process may be assigned another GPU with its next task, and CUDA reads CUDA_VISIBLE_DEVICES only once; so the
    variable is left as it is, and the device is chosen by its number.
    """
    given = ray.get_runtime_context().get_accelerator_ids()["GPU"][0]
    return f"cuda:{gpu_number(given, os.environ.get('CUDA_VISIBLE_DEVICES'))}"


def gpu_number(given: str, visible: str | None) -> int:
    """Return the position among the visible GPUs of the one that Ray assigned by name."""
    return int(given) if visible is None else visible.split(",").index(given)


def _mine_shard_with_retries(shard: int, run: Run, device: str, threads: int, retries: int) -> int:
    return retry(mine_shard.function, shard, run, device, threads, tries=retries + 1, pause_s=RETRY_PAUSE_S)


# --- on the driver ---------------------------------------------------------------------------------------------------


@contextmanager
def _connected(settings: MineSettings) -> Iterator[None]:
    if ray.is_initialized():  # by a notebook, for example, which may continue to use it
        yield
        return
    wanted = (settings.runner_workers or 1) * (settings.cpus_per_worker or 1)
    size: dict[str, Any] = {
        "num_cpus": max(available_cores(), wanted),
        "object_store_memory": _OBJECT_STORE_BYTES,
        "include_dashboard": False,
    }
    with _keep_sigterm_handler():
        if settings.ray_address is None:
            ray.init("local", log_to_driver=False, logging_level=logging.ERROR, **size)
        else:
            _connect(settings.ray_address)
    try:
        yield
    finally:
        ray.shutdown()


def _connect(address: str) -> None:
    host, _, port = address.removeprefix("ray://").rpartition(":")
    try:
        if port.isdigit():  # Ray itself waits for minutes
            socket.create_connection((host.strip("[]"), int(port)), timeout=_CONNECT_TIMEOUT_S).close()
        ray.init(address, log_to_driver=False, logging_level=logging.ERROR)
    except (OSError, RuntimeError, ValueError) as error:  # ConnectionError and TimeoutError are of the first kind
        reason = (str(error).strip() or repr(error)).splitlines()[0]
        raise InputError(f"There is no Ray cluster at {address}: {reason}") from error


@contextmanager
def _keep_sigterm_handler() -> Iterator[None]:
    # Ray exits on SIGTERM by itself, and the run's record would not say that it was stopped
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _worker_resources(settings: MineSettings) -> tuple[dict[str, Any], str, int]:
    """Return Ray's options, the device and the threads of a worker. Raises InputError if no node has room for one."""
    has_gpus = any(node.get("GPU") for node in _nodes())
    gpus = settings.gpus_per_worker
    if gpus is None:
        gpus = 1.0 if settings.device == "cuda" or (settings.device == "auto" and has_gpus) else 0.0
    cpus = settings.cpus_per_worker or (_cpus_beside(gpus) if gpus else 1)
    options: dict[str, Any] = {
        "num_gpus": gpus, "num_cpus": cpus, "max_retries": settings.retries,
        "max_calls": 0,  # with a GPU Ray's default is 1: each shard would start a process and load a model
    }  # fmt: skip
    if gpus:
        options["runtime_env"] = {"env_vars": {_LEAVE_VISIBLE: "1"}}
    if not _free_workers(options):
        raise InputError(
            f"No node of the Ray cluster has {cpus} CPUs and {gpus:g} GPUs for a worker; "
            "give fewer --cpus-per-worker or --gpus-per-worker, or start one that has."
        )
    device = settings.device if settings.device not in ("auto", "cuda") else "cuda" if gpus else "cpu"
    return options, device, cpus


def _nodes() -> list[dict[str, float]]:
    return [node["Resources"] for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]


def _cpus_beside(gpus: float) -> int:
    shares = [node.get("CPU", 0) * gpus / node["GPU"] for node in _nodes() if node.get("GPU")]
    return max(1, min(_MAX_CPUS_PER_GPU, int(min(shares, default=1))))


def _free_workers(options: dict[str, Any]) -> int:
    """Return the number of workers that the cluster has room for now."""
    cpus, gpus = options["num_cpus"], options["num_gpus"]
    by_cpus = [int(node.get("CPU", 0) / cpus) for node in _nodes()]
    by_gpus = [int(node.get("GPU", 0) / gpus) if gpus else most for node, most in zip(_nodes(), by_cpus, strict=True)]
    return sum(map(min, by_cpus, by_gpus))


def _window(settings: MineSettings, options: dict[str, Any]) -> int:
    # as many wait as are mined: no worker is idle, and an autoscaling cluster sees the demand
    return settings.runner_workers or 2 * max(1, _free_workers(options))


@contextmanager
def _submitter(arguments: tuple[Run, str, int], options: dict[str, Any], retries: int) -> Iterator[Submit]:
    """Yield a function that submits a shard; it returns what to wait for, and a function for the number of images."""
    if not _reports_to_server():
        remote = ray.remote(**options)(_mine_shard_with_retries)

        def submit(shard: int) -> tuple[Any, Callable[[], int]]:
            task = remote.remote(shard, *arguments, retries)
            return task, lambda: int(ray.get(task))

        yield submit
        return
    from prefect_ray import RayTaskRunner
    from prefect_ray.context import remote_options

    task = mine_shard.retried_task(retries)
    with RayTaskRunner() as runner, remote_options(**options):

        def submit(shard: int) -> tuple[Any, Callable[[], int]]:
            future = runner.submit(
                task, dict(zip(("shard", "run", "device", "threads"), (shard, *arguments), strict=True))
            )
            return future.wrapped_future, future.result

        yield submit


def _reports_to_server() -> bool:
    """Return whether workers can report to a server: an embedded one cannot be reached from other machines."""
    return orchestrated() and bool(os.environ.get("PREFECT_API_URL"))


def _mine_in_window(shards: list[int], submit: Submit, window: Callable[[], int], stage: Stage) -> None:
    open_shards, waiting = iter(shards), dict[Any, Callable[[], int]]()
    try:
        while True:
            waiting.update(map(submit, islice(open_shards, max(0, window() - len(waiting)))))
            if not waiting:
                return
            for done in ray.wait(list(waiting))[0]:
                stage.advance(waiting.pop(done)())
    except RayTaskError as error:
        raise error.cause from None
    except RayError as error:
        raise ProcessLostError(
            f"Ray lost a shard more often than it may be retried: {' '.join(str(error).split())[:500]} "
            "Run the same command again to resume."
        ) from error
    finally:
        for task in waiting:
            ray.cancel(task, force=True)
