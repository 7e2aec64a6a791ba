"""The Prefect server is killed while a command reports to it: the work ends with all its rows whatever becomes of it."""

import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from mining.synthetic import generate
from tests.faults.conftest import boxmine
from tests.faults.counting import injected
from tests.faults.test_kill import assert_equal_runs, finish, mine
from tests.serving import server_environment, start_server

IN_TIME = 500  # seconds; three requests in a row are each repeated for a minute
pytestmark = pytest.mark.timeout(900)


@pytest.fixture(scope="module")
def undisturbed(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that never heard of a server."""
    run = tmp_path_factory.mktemp("undisturbed") / "run"
    assert finish(mine(corpus, run)) == 0
    return run


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


def wait_for_parts(run: Path, process: "subprocess.Popen[str]") -> None:
    while process.poll() is None and len(list(run.glob("parts/part-*"))) < 2:
        time.sleep(0.02)
    assert process.poll() is None, process.communicate()


def test_a_server_that_is_not_there_costs_a_note(environment: dict[str, str], tmp_path: Path) -> None:
    generate(tmp_path / "corpus", images=6, seed=5)
    assert finish(mine(tmp_path / "corpus", tmp_path / "alone")) == 0
    process = boxmine(*mine(tmp_path / "corpus", tmp_path / "run"), environment=environment)
    _, said = process.communicate(timeout=IN_TIME)
    assert process.returncode == 0, said
    assert_equal_runs(tmp_path / "alone", tmp_path / "run")
    assert "Prefect's server cannot be reached; the work is done without it." in said
    assert "Traceback" not in said
    injected("Prefect's server not there")


def killed_under(
    server: "subprocess.Popen[bytes]", run: Path, corpus: Path, environment: dict[str, str]
) -> "subprocess.Popen[str]":
    """A command that mines and whose server is killed meanwhile."""
    process = boxmine(*mine(corpus, run), environment=environment)
    wait_for_parts(run, process)
    server.kill()
    server.wait()
    return process


@pytest.mark.server
@pytest.mark.slow
def test_a_server_that_is_gone_for_good_costs_the_reporting(
    server: "subprocess.Popen[bytes]", environment: dict[str, str], corpus: Path, undisturbed: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    process = killed_under(server, run, corpus, environment)
    _, said = process.communicate(timeout=IN_TIME)
    assert process.returncode == 0, said
    assert_equal_runs(undisturbed, run)
    assert "Prefect's server cannot be reached" in said
    injected("Prefect's server gone for good")


@pytest.mark.server
@pytest.mark.slow
def test_a_server_that_is_restarted_is_told_how_it_ended(
    server: "subprocess.Popen[bytes]", environment: dict[str, str], corpus: Path, undisturbed: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    process = killed_under(server, run, corpus, environment)
    again = start_server(environment)
    try:
        _, said = process.communicate(timeout=IN_TIME)
        assert process.returncode == 0, said
        assert_equal_runs(undisturbed, run)
        assert told_state(environment) == "COMPLETED"
        injected("Prefect's server restarted")
    finally:
        again.kill()
        again.wait()


def told_state(environment: dict[str, str]) -> str:
    """Of the flow run, as the server has it."""
    import httpx

    found = httpx.post(f"{environment['PREFECT_API_URL']}/flow_runs/filter", json={}, timeout=30).json()
    return "".join(one["state_type"] for one in found)
