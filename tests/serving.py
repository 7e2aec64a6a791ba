"""A Prefect server to run against: on loopback, in a home of its own."""

import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def prefect_server(home: Path) -> Iterator[dict[str, str]]:
    """Give the environment of a process that reports to the server. Raises RuntimeError where it does not start."""
    environment = server_environment(home)
    server = start_server(environment)
    try:
        yield environment
    finally:
        server.terminate()
        server.wait(30)


def server_environment(home: Path, **more: str) -> dict[str, str]:
    """The environment of a server at a free port, and of whoever reports to it."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
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


def start_server(environment: dict[str, str]) -> "subprocess.Popen[bytes]":
    """A server that answers. Raises RuntimeError where it does not start."""
    log = Path(environment["PREFECT_HOME"]) / "server.log"
    with log.open("a") as out:
        server = subprocess.Popen(
            [sys.executable, "-m", "prefect", "server", "start", "--no-ui"],
            env=environment, stdout=out, stderr=subprocess.STDOUT,
        )  # fmt: skip
    try:
        _wait_until_healthy(f"{environment['PREFECT_API_URL']}/health", server, log)
    except RuntimeError:
        server.kill()
        raise
    return server


def _wait_until_healthy(url: str, server: "subprocess.Popen[bytes]", log: Path) -> None:
    deadline = time.monotonic() + 180
    while time.monotonic() < deadline and server.poll() is None:
        try:
            with urllib.request.urlopen(url, timeout=2):
                return
        except OSError:
            time.sleep(0.5)
    raise RuntimeError(f"The Prefect server did not start:\n{log.read_text()[-2000:]}")
