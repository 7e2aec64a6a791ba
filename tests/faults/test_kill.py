"""A run that is killed again and again ends with the same rows as one that was left alone."""

import random
import signal
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests.faults.conftest import boxmine
from tests.faults.counting import injected


def mine(corpus: Path, out: Path) -> list[object]:
    return [
        "mine", "--images", corpus / "images", "--model", "pretrained:efficientnet_lite0", "--out", out,
        "--class-cut", "0.05", "--shard-size", "2", "--batch-size", "2", "--scales", "1,1.5",
    ]  # fmt: skip


def finish(command: list[object]) -> int:
    process = boxmine(*command)
    process.communicate(timeout=300)
    return process.returncode


def kill_at_random(command: list[object], run: Path, delay: float, how: signal.Signals = signal.SIGKILL) -> int:
    """Start the command, kill it `delay` seconds after it opened the run; gives its exit code (-9 if it was killed)."""
    before = (run / "run.json").stat().st_mtime_ns if (run / "run.json").exists() else 0
    process = boxmine(*command)
    while process.poll() is None:
        if (run / "run.json").exists() and (run / "run.json").stat().st_mtime_ns != before:
            time.sleep(delay)
            process.send_signal(how)
            break
        time.sleep(0.01)
    process.communicate(timeout=300)
    return process.returncode


def assert_equal_runs(first: Path, second: Path) -> None:
    for name in ("annotations.parquet", "corpus.parquet", "quarantine.parquet"):
        assert pq.read_table(first / name).equals(pq.read_table(second / name)), name
    assert (first / "annotations.json").read_text().count('"id"') == (second / "annotations.json").read_text().count(
        '"id"'
    )


@pytest.mark.parametrize("kills", [2, pytest.param(10, marks=pytest.mark.slow)])
def test_a_killed_and_resumed_run_has_the_rows_of_an_uninterrupted_one(
    kills: int, corpus: Path, tmp_path: Path
) -> None:
    undisturbed, disturbed = tmp_path / "undisturbed", tmp_path / "disturbed"
    assert finish(mine(corpus, undisturbed)) == 0
    assert pq.read_metadata(undisturbed / "annotations.parquet").num_rows > 10
    moments = random.Random(kills)
    killed = sum(kill_at_random(mine(corpus, disturbed), disturbed, moments.uniform(0, 4)) == -9 for _ in range(kills))
    assert killed >= 1
    assert finish(mine(corpus, disturbed)) == 0
    assert_equal_runs(undisturbed, disturbed)
    assert not list(disturbed.rglob(".tmp-*"))
    injected("kill -9 of `boxmine mine`", killed)


def test_ctrl_c_ends_with_code_4_and_the_same_command_carries_on(corpus: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    code = kill_at_random(mine(corpus, run), run, 1.0, signal.SIGINT)
    assert code == 4
    assert finish(mine(corpus, run)) == 0
    assert finish(mine(corpus, run)) == 0  # and once more: nothing is left to do
