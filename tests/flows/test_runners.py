"""Every runner gives the same rows; a worker that dies is replaced, and no process is left behind."""

import json
import os
import signal
import subprocess
import sys
import urllib.request
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch

from flows.cli.application import run_command
from flows.mine import mine
from mining.errors import InputError, ModelError, RunError, RunStoppedError
from mining.runs import shard_mining
from mining.runs.run import Run
from tests.processes import BOXMINE, find_descendants, start_boxmine, wait_until, wait_until_gone
from tests.sharded_corpus import SHARDS, mine_arguments, mine_settings, read_tables, write_corpus, write_mined_corpus


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_mined_corpus(tmp_path_factory.mktemp("corpus"))


def find_workers(process: int) -> list[int]:
    return find_descendants(process, "tasks.runners.worker")


def test_a_killed_worker_is_replaced(corpus: Path, tmp_path: Path, on_progress: Any) -> None:
    killed: list[int] = []

    def kill(done: int) -> None:
        if done == 1 and not killed:
            killed.append(find_workers(os.getpid())[0])
            os.kill(killed[-1], signal.SIGKILL)

    on_progress(kill)
    mine(mine_settings(corpus, tmp_path / "run", runner="processes", runner_workers=2))
    assert len(killed) == 1
    assert read_tables(tmp_path / "run") == read_tables(corpus / "local")
    assert not list(tmp_path.rglob(".tmp-*"))
    assert find_workers(os.getpid()) == []


@pytest.mark.slow
def test_a_shard_that_kills_every_worker_stops_the_run(corpus: Path, tmp_path: Path, on_progress: Any) -> None:
    def kill(_: int) -> None:
        for worker in find_workers(os.getpid()):
            os.kill(worker, signal.SIGKILL)

    on_progress(kill)
    with pytest.raises(RunStoppedError, match=r"killed by signal 9, 2 times") as stopped:
        mine(mine_settings(corpus, tmp_path / "run", runner="processes", retries=1))
    assert stopped.value.exit_code == 4
    assert Run(tmp_path / "run").record["state"] == "stopped"


@pytest.mark.skipif(torch.cuda.is_available(), reason="asks for a GPU where there is none")
def test_an_error_of_a_worker_is_raised_here(corpus: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="Device 'cuda' cannot be used"):
        mine(mine_settings(corpus, tmp_path / "run", runner="processes", device="cuda"))
    assert find_workers(os.getpid()) == []


@pytest.mark.slow
def test_two_processes_with_a_gpu_each_give_the_rows_of_one(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, on_progress: Any
) -> None:
    done: list[int] = []
    visible: set[str] = set()

    def read_environments(images: int) -> None:
        done.append(images)
        for worker in find_workers(os.getpid()):
            variables = Path(f"/proc/{worker}/environ").read_text().split("\0")
            visible.update(v for v in variables if v.startswith("CUDA_VISIBLE_DEVICES="))

    on_progress(read_environments)
    monkeypatch.delattr(shard_mining, "mine_shard")  # this process does not mine
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    mine(mine_settings(corpus, tmp_path / "run", runner="processes"))
    assert visible == {"CUDA_VISIBLE_DEVICES=3", "CUDA_VISIBLE_DEVICES=5"}
    assert read_tables(tmp_path / "run") == read_tables(corpus / "local")
    assert done == list(range(2 * SHARDS + 1))
    assert find_workers(os.getpid()) == []


@pytest.mark.slow
@pytest.mark.parametrize(("how", "code"), [(signal.SIGINT, 4), (signal.SIGTERM, 4), (signal.SIGKILL, -9)])
def test_a_run_stopped_under_one_runner_is_resumed_under_another(
    how: signal.Signals, code: int, corpus: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    options = ("--runner", "processes", "--runner-workers", "2", "--workers", "1")
    arguments = mine_arguments(corpus, run, *options)
    with start_boxmine(*arguments) as process:
        wait_until(lambda: (run / "parts").is_dir() or process.poll() is not None, poll_s=0.002)
        workers = find_workers(process.pid)
        process.send_signal(how)
        _, stderr = process.communicate(timeout=60)
    assert process.returncode == code, stderr
    assert len(workers) == 2
    assert "Traceback" not in stderr
    assert len(list((run / "parts").glob("part-*"))) < SHARDS
    wait_until_gone(workers)
    mine(mine_settings(corpus, run))
    assert read_tables(run) == read_tables(corpus / "local")
    assert Run(run).record["config"]["runner"] == "local"


@pytest.mark.parametrize("runner", ["processes", "ray"])
def test_a_numbered_gpu_cannot_be_combined_with_several_workers(runner: str, corpus: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="gives each worker its GPU"):
        mine_settings(corpus, tmp_path, runner=runner, device="cuda:1")


@pytest.mark.parametrize("package", ["ray", "prefect_ray"])
def test_a_missing_ray_is_reported_with_the_command_that_installs_it(
    package: str, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, package, None)  # type: ignore[arg-type]
    assert run_command(mine_arguments(corpus, tmp_path / "run", "--runner", "ray")) == InputError.exit_code
    assert "pip install 'boxmine[ray]'" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
@pytest.mark.server
def test_the_server_shows_each_shard_that_ray_mines(
    prefect_environment: dict[str, str], corpus: Path, tmp_path: Path
) -> None:
    done = subprocess.run(
        [*BOXMINE, *mine_arguments(corpus, tmp_path / "run", "--runner", "ray", "--runner-workers", "2")],
        env=prefect_environment, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert read_tables(tmp_path / "run") == read_tables(corpus / "local")
    assert count_task_runs(prefect_environment, "mine shard") == {"COMPLETED": SHARDS}


def count_task_runs(environment: dict[str, str], name: str) -> Counter[str]:
    """Count the server's task runs whose name starts so, by state."""
    request = urllib.request.Request(
        f"{environment['PREFECT_API_URL']}/task_runs/filter", data=b"{}", headers={"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        return Counter(run["state_type"] for run in json.load(answer) if run["name"].startswith(name))


def test_a_node_without_the_files_is_named(corpus: Path, tmp_path: Path) -> None:
    from tasks.runners.ray_cluster import check_node_sees_files

    mounted = write_corpus(tmp_path / "mounted")
    mine(mine_settings(mounted, tmp_path / "run"))
    check_node_sees_files(Run(tmp_path / "run"), "10.0.0.7")
    with pytest.raises(RunError, match=rf"10\.0\.0\.7 does not see {tmp_path}/other"):
        check_node_sees_files(Run(tmp_path / "other"), "10.0.0.7")
    (mounted / "images").rename(mounted / "unmounted")
    (mounted / "images").mkdir()
    with pytest.raises(RunError, match=rf"10\.0\.0\.7 does not see {mounted}/images"):
        check_node_sees_files(Run(tmp_path / "run"), "10.0.0.7")


@pytest.mark.parametrize(("given", "visible", "number"), [("1", None, 1), ("5", "3,5", 1), ("GPU-b", "GPU-a,GPU-b", 1)])
def test_the_gpu_assigned_by_ray_is_found_among_the_visible_ones(given: str, visible: str | None, number: int) -> None:
    from tasks.runners.ray_cluster import gpu_number

    assert gpu_number(given, visible) == number
