"""Prefect's database may be PostgreSQL: a server on a throw-away cluster takes the report of a run."""

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from mining.synthetic import generate
from tests.faults.conftest import boxmine
from tests.serving import server_environment, start_server

pytestmark = [pytest.mark.server, pytest.mark.slow]


def postgres_program(name: str) -> str:
    places = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    found = shutil.which(name, path=os.pathsep.join([os.environ["PATH"], *map(str, places)]))
    if found is None:
        pytest.skip(f"PostgreSQL's {name} is not on this machine")
    return found


@contextmanager
def cluster(folder: Path) -> Iterator[int]:
    """A PostgreSQL on loopback; gives its port. The folder belongs to whom it runs as, for it refuses to run as root."""
    user = None if os.geteuid() else "nobody"
    if user is not None:
        os.chown(folder, pwd.getpwnam(user).pw_uid, -1)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])

    def run(program: str, *arguments: str) -> None:
        done = subprocess.run(
            [postgres_program(program), *arguments],
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
    postgres_program("initdb")
    # not below pytest's own folder, which nobody else may enter
    with tempfile.TemporaryDirectory() as folder, cluster(Path(folder)) as listening:
        yield listening


def test_a_run_is_reported_to_a_server_on_postgresql(port: int, tmp_path: Path) -> None:
    generate(tmp_path / "photos", images=4, seed=1)
    (tmp_path / "prefect").mkdir()
    database = f"postgresql+asyncpg://prefect@127.0.0.1:{port}/prefect"
    environment = server_environment(tmp_path / "prefect", PREFECT_SERVER_DATABASE_CONNECTION_URL=database)
    server = start_server(environment)
    try:
        process = boxmine(
            "mine", "--images", tmp_path / "photos" / "images", "--model", "pretrained:efficientnet_lite0",
            "--out", tmp_path / "run", "--scales", "1", environment=environment,
        )  # fmt: skip
        _, said = process.communicate(timeout=300)
        assert process.returncode == 0, said
    finally:
        server.terminate()
        server.wait(60)
    connection = ["--host", "127.0.0.1", "--port", str(port), "--username", "prefect", "prefect"]
    query = "select flow.name, flow_run.state_type from flow_run join flow on flow.id = flow_run.flow_id"
    done = subprocess.run(
        [postgres_program("psql"), "--tuples-only", "--no-align", "--command", query, *connection],
        capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    assert done.stdout.split() == ["boxmine-mine|COMPLETED"]
