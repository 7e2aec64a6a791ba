"""A Prefect server to test against: on loopback, with its own home folder."""

import os
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.processes import wait_until


@contextmanager
def run_prefect_server(home: Path) -> Iterator[dict[str, str]]:
    """Run a server; yields the environment of a process that reports to it."""
    environment = server_environment(home)
    server = start_server(environment)
    try:
        yield environment
    finally:
        server.terminate()
        server.wait(30)


def server_environment(home: Path, **more: str) -> dict[str, str]:
    """Build the environment of a server at a free port, which is also that of the processes that report to it."""
    port = find_free_port()
    return {
        **os.environ,
        "PREFECT_HOME": str(home),
        "PREFECT_API_URL": f"http://127.0.0.1:{port}/api",
        "PREFECT_SERVER_API_HOST": "127.0.0.1",
        "PREFECT_SERVER_API_PORT": str(port),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "1",
        "PREFECT_CLI_COLORS": "false",
        "COLUMNS": "200",
        **more,
    }


def find_free_port() -> int:
    """Find a TCP port of loopback that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def start_server(environment: dict[str, str]) -> "subprocess.Popen[bytes]":
    """Start a server and wait until it answers. Raises RuntimeError where it does not start."""
    log = Path(environment["PREFECT_HOME"]) / "server.log"
    with log.open("a") as out:
        server = subprocess.Popen(
            [sys.executable, "-m", "prefect", "server", "start", "--no-ui"],
            env=environment, stdout=out, stderr=subprocess.STDOUT,
        )  # fmt: skip

    def is_healthy_or_dead() -> bool:
        return is_healthy(environment) or server.poll() is not None

    try:
        wait_until(is_healthy_or_dead, timeout_s=180, poll_s=0.2)
    except AssertionError:
        server.kill()
        server.wait()
    if server.poll() is not None:
        raise RuntimeError(f"The Prefect server did not start:\n{log.read_text()[-2000:]}")
    return server


def is_healthy(environment: dict[str, str]) -> bool:
    """Whether the server of this environment answers."""
    try:
        with urllib.request.urlopen(f"{environment['PREFECT_API_URL']}/health", timeout=2):
            return True
    except OSError:
        return False
