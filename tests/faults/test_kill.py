"""A run that is killed or interrupted again and again ends with the rows of an uninterrupted one."""

import random
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from flows.cli.application import run_command
from tests.faults.conftest import mine_arguments
from tests.processes import start_boxmine, wait_until

PARTS = 12


def run_to_end(arguments: list[str]) -> int:
    """Run a command in its own process; returns its exit code."""
    process = start_boxmine(*arguments)
    process.communicate(timeout=300)
    return process.returncode


def signal_while_mining(
    arguments: list[str], run: Path, *, new_parts: int, how: signal.Signals
) -> "subprocess.CompletedProcess[str]":
    """Start the command and send it a signal after it has opened the run and written so many parts.

    Returns:
        How it ended: with exit code -9 where SIGKILL ended it, 0 where it ended before.
    """
    record = run / "run.json"
    before = record.stat().st_mtime_ns if record.exists() else 0
    parts = count_parts(run)
    process = start_boxmine(*arguments)

    def is_open() -> bool:
        return record.exists() and record.stat().st_mtime_ns != before

    wait_until(
        lambda: process.poll() is not None or (is_open() and count_parts(run) >= min(parts + new_parts, PARTS)),
        timeout_s=300,
    )
    process.send_signal(how)
    stdout, stderr = process.communicate(timeout=300)
    return subprocess.CompletedProcess(process.args, process.returncode, stdout, stderr)


def count_parts(run: Path) -> int:
    return len(list(run.glob("parts/part-*.parquet")))


def assert_equal_runs(first: Path, second: Path) -> None:
    for name in ("annotations.parquet", "corpus.parquet", "quarantine.parquet"):
        assert pq.read_table(first / name).equals(pq.read_table(second / name)), name
    ids = [(run / "annotations.json").read_text().count('"id"') for run in (first, second)]
    assert ids[0] == ids[1]


@pytest.mark.slow
@pytest.mark.parametrize("kills", [1, 10])
def test_a_killed_and_resumed_run_has_the_rows_of_an_uninterrupted_one(
    kills: int, corpus: Path, undisturbed: Path, tmp_path: Path, count_fault: Callable[..., None]
) -> None:
    assert pq.read_metadata(undisturbed / "annotations.parquet").num_rows > 10
    disturbed = tmp_path / "disturbed"
    arguments = mine_arguments(corpus, disturbed)
    drawn = random.Random(kills)
    killed = 0
    for _ in range(kills):
        new_parts = drawn.randrange(4)
        ended = signal_while_mining(arguments, disturbed, new_parts=new_parts, how=signal.SIGKILL)
        killed += ended.returncode == -9
    assert killed >= 1
    assert run_to_end(arguments) == 0
    assert_equal_runs(undisturbed, disturbed)
    assert not list(disturbed.rglob(".tmp-*"))
    count_fault("kill -9 of `boxmine mine`", killed)


def test_ctrl_c_ends_with_code_4_and_the_same_command_resumes(corpus: Path, undisturbed: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    arguments = mine_arguments(corpus, run)
    interrupted = signal_while_mining(arguments, run, new_parts=1, how=signal.SIGINT)
    assert interrupted.returncode == 4, interrupted.stderr
    assert count_parts(run) < PARTS
    assert run_command(arguments) == 0
    assert_equal_runs(undisturbed, run)
    assert run_command(arguments) == 0, "a finished run has nothing left to do"
