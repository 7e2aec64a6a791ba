"""Prefect may store its data in PostgreSQL: a server on a temporary cluster receives the report of a run."""

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from mining.synthetic import generate
from tests.prefect_server import find_free_port, server_environment, start_server
from tests.processes import start_boxmine

pytestmark = [pytest.mark.server, pytest.mark.slow]


def find_postgres_program(name: str) -> str:
    """Find a program of PostgreSQL; skips the test where it is missing."""
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    path = shutil.which(name, path=os.pathsep.join([os.environ["PATH"], *map(str, folders)]))
    if path is None:
        pytest.skip(f"PostgreSQL's {name} is not on this machine")
    return path


@contextmanager
def run_postgres(folder: Path) -> Iterator[int]:
    """Run PostgreSQL on loopback; yields its port. It refuses to run as root, so the folder is given to `nobody`."""
    user = None if os.geteuid() else "nobody"
    if user is not None:
        os.chown(folder, pwd.getpwnam(user).pw_uid, -1)
    port = find_free_port()

    def run(program: str, *arguments: str) -> None:
        done = subprocess.run(
            [find_postgres_program(program), *arguments],
            user=user, cwd=folder, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
            text=True, timeout=120,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr

    data = str(folder / "data")
    run("initdb", "--pgdata", data, "--username", "prefect", "--auth", "trust", "--no-sync")
    options = f"-c listen_addresses=127.0.0.1 -p {port} -k {folder} -c fsync=off"
    run("pg_ctl", "start", "--wait", "--pgdata", data, "--log", str(folder / "log"), "--options", options)
    try:
        run("createdb", "--host", "127.0.0.1", "--port", str(port), "--username", "prefect", "prefect")
        yield port
    finally:
        run("pg_ctl", "stop", "--pgdata", data, "--mode", "immediate")


@pytest.fixture
def port() -> Iterator[int]:
    find_postgres_program("initdb")
    # not below pytest's own folder, which other users may not enter
    with tempfile.TemporaryDirectory() as folder, run_postgres(Path(folder)) as listening:
        yield listening


def test_a_run_is_reported_to_a_server_on_postgresql(port: int, tmp_path: Path) -> None:
    generate(tmp_path / "photos", images=4, seed=1)
    (tmp_path / "prefect").mkdir()
    database = f"postgresql+asyncpg://prefect@127.0.0.1:{port}/prefect"
    environment = server_environment(tmp_path / "prefect", PREFECT_SERVER_DATABASE_CONNECTION_URL=database)
    server = start_server(environment)
    try:
        process = start_boxmine(
            "mine", "--images", tmp_path / "photos" / "images", "--model", "pretrained:efficientnet_lite0",
            "--out", tmp_path / "run", "--scales", "1", environment=environment,
        )  # fmt: skip
        _, stderr = process.communicate(timeout=300)
        assert process.returncode == 0, stderr
    finally:
        server.terminate()
        server.wait(60)
    connection = ["--host", "127.0.0.1", "--port", str(port), "--username", "prefect", "prefect"]
    query = "select flow.name, flow_run.state_type from flow_run join flow on flow.id = flow_run.flow_id"
    done = subprocess.run(
        [find_postgres_program("psql"), "--tuples-only", "--no-align", "--command", query, *connection],
        capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    assert done.stdout.split() == ["boxmine-mine|COMPLETED"]
