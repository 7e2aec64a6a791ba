"""Whoever mines the shards, the rows are the same; a worker that dies is replaced, and none is left behind."""

import json
import os
import signal
import subprocess
import sys
import time
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
from tests.shards import SHARDS, asked, command, processes_below, rows, write_corpus, write_mined_corpus


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_mined_corpus(tmp_path_factory.mktemp("corpus"))


def workers_of(process: int) -> list[int]:
    return processes_below(process, "tasks.runners.worker")


def test_two_processes_give_the_rows_of_one(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at_progress: Any
) -> None:
    told: list[int] = []
    at_progress(told.append)
    monkeypatch.delattr(shard_mining, "mine_shard")  # this process does not mine
    mine(asked(corpus, tmp_path / "run", runner="processes", runner_workers=2))
    assert rows(tmp_path / "run") == rows(corpus / "local")
    assert told == list(range(2 * SHARDS + 1))
    assert workers_of(os.getpid()) == []


def test_a_worker_that_is_killed_is_replaced(corpus: Path, tmp_path: Path, at_progress: Any) -> None:
    killed: list[int] = []

    def kill(done: int) -> None:
        if done in (1, 5) and len(killed) < 2:
            killed.append(workers_of(os.getpid())[0])
            os.kill(killed[-1], signal.SIGKILL)

    at_progress(kill)
    mine(asked(corpus, tmp_path / "run", runner="processes", runner_workers=2))
    assert len(set(killed)) == 2
    assert rows(tmp_path / "run") == rows(corpus / "local")
    assert not list(tmp_path.rglob(".tmp-*"))


@pytest.mark.slow
def test_a_shard_that_kills_every_worker_stops_the_run(corpus: Path, tmp_path: Path, at_progress: Any) -> None:
    def kill(_: int) -> None:
        for worker in workers_of(os.getpid()):
            os.kill(worker, signal.SIGKILL)

    at_progress(kill)
    with pytest.raises(RunStoppedError, match=r"killed by signal 9, 2 times") as stopped:
        mine(asked(corpus, tmp_path / "run", runner="processes", retries=1))
    assert stopped.value.exit_code == 4
    assert Run(tmp_path / "run").record["state"] == "stopped"


@pytest.mark.skipif(torch.cuda.is_available(), reason="asks for a GPU where there is none")
def test_what_a_worker_raises_comes_through(corpus: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="Device 'cuda' cannot be used"):
        mine(asked(corpus, tmp_path / "run", runner="processes", device="cuda"))
    assert workers_of(os.getpid()) == []


def test_each_worker_sees_a_gpu_of_its_own(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at_progress: Any
) -> None:
    seen: set[str] = set()

    def look(_: int) -> None:
        for worker in workers_of(os.getpid()):
            variables = Path(f"/proc/{worker}/environ").read_text().split("\0")
            seen.update(v for v in variables if v.startswith("CUDA_VISIBLE_DEVICES="))

    at_progress(look)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    mine(asked(corpus, tmp_path / "run", runner="processes"))
    assert seen == {"CUDA_VISIBLE_DEVICES=3", "CUDA_VISIBLE_DEVICES=5"}
    assert rows(tmp_path / "run") == rows(corpus / "local")


@pytest.mark.parametrize(
    ("how", "code"),
    [
        (signal.SIGINT, 4),
        pytest.param(signal.SIGTERM, 4, marks=pytest.mark.slow),
        pytest.param(signal.SIGKILL, -9, marks=pytest.mark.slow),
    ],
)
def test_a_run_stopped_with_one_runner_is_carried_on_with_another(
    how: signal.Signals, code: int, corpus: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    options = ("--runner", "processes", "--runner-workers", "2", "--workers", "1")
    with subprocess.Popen(
        [sys.executable, "-c", "from flows.cli.application import main; main()", *command(corpus, run, *options)],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    ) as process:  # fmt: skip
        while not (run / "parts").is_dir() and process.poll() is None:
            time.sleep(0.002)
        workers = workers_of(process.pid)
        process.send_signal(how)
        said, _ = process.communicate(timeout=60)
    assert process.returncode == code, said
    assert len(workers) == 2
    assert "Traceback" not in said
    assert len(list((run / "parts").glob("part-*"))) < SHARDS
    deadline = time.monotonic() + 30
    while any(Path(f"/proc/{worker}").exists() for worker in workers):
        assert time.monotonic() < deadline, f"{workers} are left"
        time.sleep(0.05)
    mine(asked(corpus, run))
    assert rows(run) == rows(corpus / "local")
    assert Run(run).record["config"]["runner"] == "local"


@pytest.mark.parametrize("runner", ["processes", "ray"])
def test_a_gpu_by_its_number_does_not_go_with_several_workers(runner: str, corpus: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="gives each worker its GPU"):
        asked(corpus, tmp_path, runner=runner, device="cuda:1")


@pytest.mark.parametrize("package", ["ray", "prefect_ray"])
def test_without_ray_a_sentence_says_what_to_install(
    package: str, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, package, None)  # type: ignore[arg-type]
    assert run_command(command(corpus, tmp_path / "run", "--runner", "ray")) == InputError.exit_code
    assert "pip install 'boxmine[ray]'" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
@pytest.mark.server
def test_a_server_sees_each_shard_that_ray_mines(
    prefect_environment: dict[str, str], corpus: Path, tmp_path: Path
) -> None:
    code = [sys.executable, "-c", "from flows.cli.application import main; main()"]
    done = subprocess.run(
        [*code, *command(corpus, tmp_path / "run", "--runner", "ray", "--runner-workers", "2")],
        env=prefect_environment, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert rows(tmp_path / "run") == rows(corpus / "local")
    assert task_runs(prefect_environment, "mine shard") == {"COMPLETED": SHARDS}


def task_runs(environment: dict[str, str], name: str) -> Counter[str]:
    """How many task runs of a name there are at the server, by their state."""
    request = urllib.request.Request(
        f"{environment['PREFECT_API_URL']}/task_runs/filter", data=b"{}", headers={"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        return Counter(run["state_type"] for run in json.load(answer) if run["name"].startswith(name))


def test_a_node_without_the_files_is_named(corpus: Path, tmp_path: Path) -> None:
    from tasks.runners.ray_cluster import check_node_sees_files

    photos = write_corpus(tmp_path / "mounted")
    mine(asked(photos, tmp_path / "run"))
    check_node_sees_files(tmp_path / "run", "10.0.0.7")
    with pytest.raises(RunError, match=rf"10\.0\.0\.7 does not see {tmp_path}/other"):
        check_node_sees_files(tmp_path / "other", "10.0.0.7")
    (photos / "images").rename(photos / "unmounted")
    (photos / "images").mkdir()
    with pytest.raises(RunError, match=rf"10\.0\.0\.7 does not see {photos}/images"):
        check_node_sees_files(tmp_path / "run", "10.0.0.7")


@pytest.mark.parametrize(("given", "visible", "number"), [("1", None, 1), ("5", "3,5", 1), ("GPU-b", "GPU-a,GPU-b", 1)])
def test_the_gpu_that_ray_gave_is_found_among_the_visible(given: str, visible: str | None, number: int) -> None:
    from tasks.runners.ray_cluster import gpu_number

    assert gpu_number(given, visible) == number
