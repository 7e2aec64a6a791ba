"""Commands as processes of their own, so that they can be killed."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from mining.synthetic import generate
from tests.faults.counting import table


def boxmine(
    *arguments: object, environment: dict[str, str] | None = None, **options: object
) -> "subprocess.Popen[str]":
    """Start a boxmine command; in an environment of its own it may report to a Prefect server."""
    command = [sys.executable, "-c", "from flows.cli.application import main; main()", *map(str, arguments)]
    alone = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_API")}
    return subprocess.Popen(
        command, env=environment or alone, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options
    )  # type: ignore[call-overload]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """What was injected, and lost: a test that finds something lost fails, and does not count."""
    for line in table():
        terminalreporter.write_line(line)


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """48 generated images with labels."""
    folder = tmp_path_factory.mktemp("corpus")
    generate(folder, images=48, seed=5)
    return folder
