"""The Prefect server is missing, killed or restarted while a command reports to it: the run ends with all its rows."""

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from flows.cli.application import run_command
from mining.synthetic import generate
from tests.faults.conftest import mine_arguments
from tests.faults.test_kill import assert_equal_runs, count_parts
from tests.prefect_server import server_environment, start_server
from tests.processes import start_boxmine, wait_until

TIMEOUT_S = 500  # three requests in a row are each retried for a minute
pytestmark = pytest.mark.timeout(900)


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    home = tmp_path / "prefect"
    home.mkdir()
    return server_environment(home)


@pytest.fixture
def server(environment: dict[str, str]) -> Iterator["subprocess.Popen[bytes]"]:
    started = start_server(environment)
    yield started
    started.kill()
    started.wait()


@pytest.mark.slow
def test_a_missing_server_costs_a_note(
    environment: dict[str, str], tmp_path: Path, count_fault: Callable[..., None]
) -> None:
    generate(tmp_path / "corpus", images=6, seed=5)
    assert run_command(mine_arguments(tmp_path / "corpus", tmp_path / "alone")) == 0
    process = start_boxmine(*mine_arguments(tmp_path / "corpus", tmp_path / "run"), environment=environment)
    _, stderr = process.communicate(timeout=TIMEOUT_S)
    assert process.returncode == 0, stderr
    assert_equal_runs(tmp_path / "alone", tmp_path / "run")
    assert "Prefect's server cannot be reached; the work is done without it." in stderr
    assert "Traceback" not in stderr
    count_fault("Prefect's server missing")


def mine_while_server_is_killed(
    server: "subprocess.Popen[bytes]", run: Path, corpus: Path, environment: dict[str, str]
) -> "subprocess.Popen[str]":
    """Start a command that reports to the server, and kill the server once two parts are written."""
    process = start_boxmine(*mine_arguments(corpus, run), environment=environment)
    wait_until(lambda: process.poll() is not None or count_parts(run) >= 2, timeout_s=300)
    assert process.poll() is None, process.communicate()
    server.kill()
    server.wait()
    return process


@pytest.mark.server
@pytest.mark.slow
def test_a_server_that_is_killed_costs_only_the_reporting(
    server: "subprocess.Popen[bytes]",
    environment: dict[str, str],
    corpus: Path,
    undisturbed: Path,
    tmp_path: Path,
    count_fault: Callable[..., None],
) -> None:
    run = tmp_path / "run"
    process = mine_while_server_is_killed(server, run, corpus, environment)
    _, stderr = process.communicate(timeout=TIMEOUT_S)
    assert process.returncode == 0, stderr
    assert_equal_runs(undisturbed, run)
    assert "Prefect's server cannot be reached" in stderr
    count_fault("Prefect's server killed for good")


@pytest.mark.server
@pytest.mark.slow
def test_a_restarted_server_receives_the_final_state(
    server: "subprocess.Popen[bytes]",
    environment: dict[str, str],
    corpus: Path,
    undisturbed: Path,
    tmp_path: Path,
    count_fault: Callable[..., None],
) -> None:
    run = tmp_path / "run"
    process = mine_while_server_is_killed(server, run, corpus, environment)
    restarted = start_server(environment)
    try:
        _, stderr = process.communicate(timeout=TIMEOUT_S)
        assert process.returncode == 0, stderr
        assert_equal_runs(undisturbed, run)
        assert read_flow_run_state(environment) == "COMPLETED"
        count_fault("Prefect's server restarted")
    finally:
        restarted.kill()
        restarted.wait()


def read_flow_run_state(environment: dict[str, str]) -> str:
    """Read the state of the only flow run from the server."""
    answer = httpx.post(f"{environment['PREFECT_API_URL']}/flow_runs/filter", json={}, timeout=30)
    (flow_run,) = answer.json()
    return str(flow_run["state_type"])
