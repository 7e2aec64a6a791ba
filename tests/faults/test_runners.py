"""Ray loses workers and nodes, and the run does not: its rows are those of an undisturbed one."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

from flows.mine import mine
from mining.errors import InputError, ModelError, RunError, RunStoppedError
from tests.faults.counting import injected
from tests.shards import SHARDS, asked, command, processes_below, rows, write_corpus, write_mined_corpus

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_mined_corpus(tmp_path_factory.mktemp("corpus"))


@pytest.fixture
def cluster() -> Iterator[Any]:
    """Two nodes with one core and one GPU each, as far as Ray knows."""
    from ray.cluster_utils import Cluster

    nodes = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "num_gpus": 1, "include_dashboard": False})
    nodes.add_node(num_cpus=1, num_gpus=1)
    yield nodes
    nodes.shutdown()


@contextmanager
def watching(look: Callable[[list[int]], None]) -> Iterator[None]:
    """Call `look` again and again with Ray's processes that are mining, if there are any."""
    ended = threading.Event()

    def watch() -> None:
        while not ended.is_set():
            if found := processes_below(os.getpid(), "ray::_mine_shard_tried"):
                look(found)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


class Killing:
    """Kills one of the workers it sees, so many times, but not sooner than a second after the last time."""

    def __init__(self, times: int) -> None:
        self.left = times
        self.killed: list[int] = []
        self.next = 0.0

    def __call__(self, workers: list[int]) -> None:
        if self.left and time.monotonic() > self.next and workers[0] not in self.killed:
            os.kill(workers[0], signal.SIGKILL)
            self.killed.append(workers[0])
            self.left, self.next = self.left - 1, time.monotonic() + 1


@pytest.mark.parametrize("count", [1, 3])
def test_however_many_workers_give_the_rows_of_one_process(
    count: int, corpus: Path, tmp_path: Path, at_progress: Any
) -> None:
    told, at_once = list[int](), list[int]()
    at_progress(told.append)
    with watching(lambda workers: at_once.append(len(workers))):
        mine(asked(corpus, tmp_path / "run", runner="ray", runner_workers=count))
    assert rows(tmp_path / "run") == rows(corpus / "local")
    assert told == list(range(0, 2 * SHARDS + 1, 2))
    assert min(count, 2) <= max(at_once) <= count, "on a slow day the third finds nothing left to do"
    assert processes_below(os.getpid(), "ray::") == []


def test_a_worker_keeps_its_process_and_model_for_the_next_shard(cluster: Any, corpus: Path, tmp_path: Path) -> None:
    seen: set[int] = set()
    options = {"runner": "ray", "ray_address": cluster.address, "device": "cpu", "gpus_per_worker": 1.0}
    with watching(seen.update):
        mine(asked(corpus, tmp_path / "run", **options))
    assert rows(tmp_path / "run") == rows(corpus / "local")
    assert len(seen) == 2


def test_a_worker_that_is_killed_is_replaced(corpus: Path, tmp_path: Path) -> None:
    killing = Killing(2)
    with watching(killing):
        mine(asked(corpus, tmp_path / "run", runner="ray", runner_workers=2))
    assert len(killing.killed) == 2
    assert rows(tmp_path / "run") == rows(corpus / "local")
    assert not list(tmp_path.rglob(".tmp-*"))
    injected("kill -9 of a Ray worker", 2)


def test_a_shard_that_is_lost_too_often_stops_the_run(corpus: Path, tmp_path: Path) -> None:
    with watching(Killing(1)), pytest.raises(RunStoppedError, match="carries on") as stopped:
        mine(asked(corpus, tmp_path / "run", runner="ray", runner_workers=1, retries=0))
    assert stopped.value.exit_code == 4


def test_a_node_that_is_killed_takes_no_shard_with_it(cluster: Any, corpus: Path, tmp_path: Path) -> None:
    (node,) = cluster.worker_nodes
    raylet = node.all_processes["raylet"][0].process.pid
    lost: list[int] = []

    def kill(_: list[int]) -> None:
        if not lost and (mining := processes_below(raylet, "ray::_mine_shard_tried")):
            lost.extend(mining)
            os.kill(raylet, signal.SIGKILL)

    with watching(kill):
        mine(asked(corpus, tmp_path / "run", runner="ray", ray_address=cluster.address, device="cpu"))
    assert lost
    assert rows(tmp_path / "run") == rows(corpus / "local")
    injected("kill -9 of a Ray node")


def test_a_cluster_is_used_by_its_address_and_outlives_the_run(cluster: Any, corpus: Path, tmp_path: Path) -> None:
    options = {"runner": "ray", "device": "cpu", "gpus_per_worker": 0.5}
    with pytest.raises(InputError, match=r"No node of the Ray cluster has 1 CPUs and 0.5 GPUs"):
        mine(asked(corpus, tmp_path / "run", **options))  # this machine has no GPU
    mine(asked(corpus, tmp_path / "run", ray_address=cluster.address, **options))
    assert rows(tmp_path / "run") == rows(corpus / "local")
    assert all(node.live_processes() for node in cluster.list_all_nodes())


@pytest.mark.skipif(torch.cuda.is_available(), reason="asks for a GPU where there is none")
def test_a_worker_computes_on_the_gpu_that_it_was_given(cluster: Any, corpus: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"Device 'cuda:0' cannot be used"):
        mine(asked(corpus, tmp_path / "run", runner="ray", ray_address=cluster.address))


def test_an_address_without_a_cluster_is_refused(corpus: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"There is no Ray cluster at 127.0.0.1:9"):
        mine(asked(corpus, tmp_path / "run", runner="ray", ray_address="127.0.0.1:9"))


def test_a_node_that_does_not_see_the_images_is_named(corpus: Path, tmp_path: Path, at_progress: Any) -> None:
    photos = write_corpus(tmp_path / "elsewhere")
    at_progress(lambda done: (photos / "images").rename(tmp_path / "unmounted"))
    with pytest.raises(RunError, match=rf"The Ray node [\d.]+ does not see {photos}/images"):
        mine(asked(photos, tmp_path / "run", runner="ray", runner_workers=1))


@pytest.mark.parametrize(("how", "code"), [(signal.SIGINT, 4), (signal.SIGTERM, 4), (signal.SIGKILL, -9)])
def test_a_run_stopped_on_ray_leaves_no_process_and_is_carried_on(
    how: signal.Signals, code: int, corpus: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    with subprocess.Popen(
        [sys.executable, "-c", "from flows.cli.application import main; main()", *command(corpus, run, "--runner", "ray")],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    ) as process:  # fmt: skip
        while not (run / "parts").is_dir() and process.poll() is None:
            time.sleep(0.01)
        left = processes_below(process.pid, "ray")
        process.send_signal(how)
        said, _ = process.communicate(timeout=60)
    assert process.returncode == code, said
    assert "Traceback" not in said
    assert left
    deadline = time.monotonic() + 180  # Ray looks from time to time whether its parent lives
    while left := [one for one in left if Path(f"/proc/{one}").exists()]:
        assert time.monotonic() < deadline, f"{left} are left"
        time.sleep(0.1)
    mine(asked(corpus, run, runner="processes"))
    assert rows(run) == rows(corpus / "local")
