"""Whoever mines the shards, the rows are the same; a worker that dies is replaced, and none is left behind."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch

from flows.cli import run_command
from flows.mine import mine
from mining import engine
from mining.config import MineSettings
from mining.errors import InputError, ModelError, RunStoppedError
from mining.runs import RunDirectory
from tasks import progress
from tests.making import write_model, write_photos

SHARDS = 6


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `images`, `model`, and `local`: a run of theirs by this process."""
    folder = tmp_path_factory.mktemp("corpus")
    write_photos(folder / "images", [f"{number:02d}.jpg" for number in range(2 * SHARDS)])
    write_model(folder / "model", ["cat", "dog"])
    mine(asked(folder, folder / "local"))
    assert pq.read_metadata(folder / "local" / "annotations.parquet").num_rows > SHARDS
    return folder


def asked(corpus: Path, out: Path, **options: Any) -> MineSettings:
    given = {"scales": (1.0, 1.5), "class_cut": 0.0, "shard_size": 2, "cpus_per_worker": 1, **options}
    return MineSettings(images=corpus / "images", model=str(corpus / "model"), out=out, **given)


def command(corpus: Path, out: Path, *options: str) -> list[str]:
    return [
        "mine", "--images", f"{corpus}/images", "--model", f"{corpus}/model", "--out", str(out), "--scales", "1,1.5",
        "--class-cut", "0", "--shard-size", "2", "--cpus-per-worker", "1", *options,
    ]  # fmt: skip


def rows(run: Path) -> Any:
    return [pq.read_table(run / name) for name in ("annotations.parquet", "corpus.parquet", "curves.parquet")]


def workers_of(parent: int) -> list[int]:
    """Worker processes of a process that live."""
    listed = subprocess.run(["ps", "-eo", "pid,ppid,stat,args"], capture_output=True, text=True, check=True).stdout
    found = [line.split(maxsplit=3) for line in listed.splitlines() if "tasks.runners.worker" in line]
    return [int(pid) for pid, ppid, state, _ in found if int(ppid) == parent and state[0] != "Z"]


@pytest.fixture
def at_progress() -> Iterator[Callable[[Callable[[int], None]], None]]:
    """Have a function called with the number of images done, whenever that is told."""
    yield lambda function: progress.listen(lambda stage, done, total, text: function(done))
    progress.listen(lambda stage, done, total, text: None)


def test_two_processes_give_the_rows_of_one(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at_progress: Any
) -> None:
    told: list[int] = []
    at_progress(told.append)
    monkeypatch.delattr(engine, "mine_shard")  # this process does not mine
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
    assert RunDirectory(tmp_path / "run").read()["state"] == "stopped"


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
        [sys.executable, "-c", "from flows.cli import main; main()", *command(corpus, run, *options)],
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
    assert RunDirectory(run).read()["config"]["runner"] == "local"


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
