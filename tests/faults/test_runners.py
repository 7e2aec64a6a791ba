"""Ray loses workers and nodes, and the run still ends with the rows of an undisturbed one."""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch

from flows.mine import mine
from mining.errors import InputError, ModelError, RunError, RunStoppedError
from tests.processes import find_descendants, start_boxmine, wait_until, wait_until_gone
from tests.sharded_corpus import SHARDS, mine_arguments, mine_settings, read_tables, write_corpus, write_mined_corpus

MINING = "ray::_mine_shard_with_retries"
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_mined_corpus(tmp_path_factory.mktemp("corpus"))


@pytest.fixture
def cluster() -> Iterator[Any]:
    """Two nodes that tell Ray they have one core and one GPU each."""
    from ray.cluster_utils import Cluster

    nodes = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "num_gpus": 1, "include_dashboard": False})
    nodes.add_node(num_cpus=1, num_gpus=1)
    yield nodes
    nodes.shutdown()


@contextmanager
def watch_workers(callback: Callable[[list[int]], None]) -> Iterator[None]:
    """Call `callback` again and again with Ray's processes that are mining, if there are any."""
    ended = threading.Event()

    def watch() -> None:
        while not ended.is_set():
            if workers := find_descendants(os.getpid(), MINING):
                callback(workers)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


class WorkerKiller:
    """Kills so many workers, at least a second apart."""

    def __init__(self, times: int) -> None:
        self.remaining = times
        self.killed: list[int] = []
        self.next = 0.0

    def __call__(self, workers: list[int]) -> None:
        if self.remaining and time.monotonic() > self.next and workers[0] not in self.killed:
            os.kill(workers[0], signal.SIGKILL)
            self.killed.append(workers[0])
            self.remaining, self.next = self.remaining - 1, time.monotonic() + 1


@pytest.mark.parametrize("count", [1, 3])
def test_any_number_of_workers_gives_the_rows_of_one_process(
    count: int, corpus: Path, tmp_path: Path, on_progress: Any
) -> None:
    done, seen = list[int](), list[set[int]]()
    on_progress(done.append)
    with watch_workers(lambda workers: seen.append(set(workers))):
        mine(mine_settings(corpus, tmp_path / "run", runner="ray", runner_workers=count))
    assert read_tables(tmp_path / "run") == read_tables(corpus / "local")
    assert done == list(range(0, 2 * SHARDS + 1, 2))
    # in one look at the processes, a worker that has just ended and its successor may both be counted
    at_once = max(len(first & second) for first, second in pairwise(seen))
    assert min(count, 2) <= at_once <= count, "on a slow machine no shard may be left for the third"
    assert find_descendants(os.getpid(), "ray::") == []


def test_a_worker_keeps_its_process_and_model_for_the_next_shard(cluster: Any, corpus: Path, tmp_path: Path) -> None:
    workers: set[int] = set()
    options = {"runner": "ray", "ray_address": cluster.address, "device": "cpu", "gpus_per_worker": 1.0}
    with watch_workers(workers.update):
        mine(mine_settings(corpus, tmp_path / "run", **options))
    assert read_tables(tmp_path / "run") == read_tables(corpus / "local")
    assert len(workers) == 2


def test_a_killed_worker_is_replaced(corpus: Path, tmp_path: Path, count_fault: Callable[..., None]) -> None:
    killer = WorkerKiller(2)
    with watch_workers(killer):
        mine(mine_settings(corpus, tmp_path / "run", runner="ray", runner_workers=2))
    assert len(killer.killed) == 2
    assert read_tables(tmp_path / "run") == read_tables(corpus / "local")
    assert not list(tmp_path.rglob(".tmp-*"))
    count_fault("kill -9 of a Ray worker", 2)


def test_a_shard_that_is_lost_too_often_stops_the_run(corpus: Path, tmp_path: Path) -> None:
    with (
        watch_workers(WorkerKiller(1)),
        pytest.raises(RunStoppedError, match="Run the same command again to resume") as stopped,
    ):
        mine(mine_settings(corpus, tmp_path / "run", runner="ray", runner_workers=1, retries=0))
    assert stopped.value.exit_code == 4


def test_the_shards_of_a_killed_node_are_mined_by_others(
    cluster: Any, corpus: Path, tmp_path: Path, count_fault: Callable[..., None]
) -> None:
    (node,) = cluster.worker_nodes
    raylet = node.all_processes["raylet"][0].process.pid
    lost: list[int] = []

    def kill_node(_: list[int]) -> None:
        if not lost and (workers := find_descendants(raylet, MINING)):
            lost.extend(workers)
            os.kill(raylet, signal.SIGKILL)

    with watch_workers(kill_node):
        mine(mine_settings(corpus, tmp_path / "run", runner="ray", ray_address=cluster.address, device="cpu"))
    assert lost
    assert read_tables(tmp_path / "run") == read_tables(corpus / "local")
    count_fault("kill -9 of a Ray node")


def test_a_cluster_is_used_by_its_address_and_outlives_the_run(cluster: Any, corpus: Path, tmp_path: Path) -> None:
    options = {"runner": "ray", "device": "cpu", "gpus_per_worker": 0.5}
    with pytest.raises(InputError, match=r"No node of the Ray cluster has 1 CPUs and 0.5 GPUs"):
        mine(mine_settings(corpus, tmp_path / "run", **options))  # this machine has no GPU
    mine(mine_settings(corpus, tmp_path / "run", ray_address=cluster.address, **options))
    assert read_tables(tmp_path / "run") == read_tables(corpus / "local")
    assert all(node.live_processes() for node in cluster.list_all_nodes())


@pytest.mark.skipif(torch.cuda.is_available(), reason="asks for a GPU where there is none")
def test_a_worker_computes_on_the_gpu_that_it_was_given(cluster: Any, corpus: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"Device 'cuda:0' cannot be used"):
        mine(mine_settings(corpus, tmp_path / "run", runner="ray", ray_address=cluster.address))


def test_an_address_without_a_cluster_is_refused(corpus: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"There is no Ray cluster at 127.0.0.1:9"):
        mine(mine_settings(corpus, tmp_path / "run", runner="ray", ray_address="127.0.0.1:9"))


def test_a_node_that_does_not_see_the_images_is_named(corpus: Path, tmp_path: Path, on_progress: Any) -> None:
    mounted = write_corpus(tmp_path / "mounted")
    on_progress(lambda done: (mounted / "images").rename(tmp_path / "unmounted"))
    with pytest.raises(RunError, match=rf"The Ray node [\d.]+ does not see {mounted}/images"):
        mine(mine_settings(mounted, tmp_path / "run", runner="ray", runner_workers=1))


@pytest.mark.parametrize(("how", "code"), [(signal.SIGINT, 4), (signal.SIGTERM, 4), (signal.SIGKILL, -9)])
def test_a_run_stopped_on_ray_leaves_no_process_and_is_resumed(
    how: signal.Signals, code: int, corpus: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    with start_boxmine(*mine_arguments(corpus, run, "--runner", "ray")) as process:
        wait_until(lambda: (run / "parts").is_dir() or process.poll() is not None)
        descendants = find_descendants(process.pid, "ray")
        process.send_signal(how)
        _, stderr = process.communicate(timeout=60)
    assert process.returncode == code, stderr
    assert "Traceback" not in stderr
    assert descendants
    wait_until_gone(descendants, timeout_s=180)  # Ray checks only from time to time whether its parent lives
    mine(mine_settings(corpus, run, runner="processes"))
    assert read_tables(run) == read_tables(corpus / "local")
