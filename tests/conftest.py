"""Fixtures for all tests: real images and reference numbers, progress, a Prefect server, a count of injected faults."""

import os
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tasks import progress
from tests.prefect_server import run_prefect_server

SHARED = Path(__file__).parents[2] / "shared"
FAULT = "injected fault"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run modules that use Prefect in this process last: processes forked after that end with exit code 1.

    Whole modules are moved, because pytest-xdist hands them out as a whole and in this order.
    """
    with_prefect = {item.path for item in items if "under_prefect" in getattr(item, "fixturenames", ())}
    items.sort(key=lambda item: item.path in with_prefect)


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Converted networks are kept in the tests' folder, shared by their processes, not in the user's cache."""
    folder = tmp_path_factory.getbasetemp()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BOXMINE_CACHE", str(folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder))
        yield


@pytest.fixture(scope="session")
def dataset() -> Callable[[str], Path]:
    """Find the folder of a dataset of real images by its name; skips the test where it is missing."""

    def find(name: str) -> Path:
        folder = Path(os.environ.get("BOXMINE_DATA", SHARED / "data")) / name
        if not folder.is_dir():
            pytest.skip(f"no images at {folder}: set BOXMINE_DATA to the folder that holds {name}")
        return folder

    return find


@pytest.fixture(scope="session")
def oracle() -> Callable[[str], Path]:
    """Find the folder of numbers that another implementation gave; skips the test where it is missing."""

    def find(name: str) -> Path:
        folder = Path(os.environ.get("BOXMINE_ORACLES", SHARED / "oracles")) / name
        if not folder.is_dir():
            pytest.skip(f"no numbers at {folder}: set BOXMINE_ORACLES to the folder that holds {name}")
        return folder

    return find


@pytest.fixture
def on_progress() -> Iterator[Callable[[Callable[[int], None]], None]]:
    """Register a function that is called with the number of finished images at each progress message."""
    yield lambda function: progress.listen(lambda stage, done, total, text: function(done))
    progress.listen(lambda stage, done, total, text: None)


@pytest.fixture(scope="session")
def prefect_environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The environment of a process that reports to the Prefect server that all tests share."""
    with run_prefect_server(tmp_path_factory.mktemp("prefect")) as environment:
        yield environment


# --- injected faults -------------------------------------------------------------------------------------------------


@pytest.fixture
def count_fault(record_property: Callable[[str, object], None]) -> Callable[..., None]:
    """Count faults that the test injected, for the table at the end; call it once it is known that nothing is lost."""

    def count(fault: str, times: int = 1) -> None:
        record_property(FAULT, [fault, times])

    return count


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print how often each fault was injected; a test that finds something lost fails, and does not count."""
    counts: Counter[str] = Counter()
    for report in terminalreporter.getreports("passed"):
        for name, value in getattr(report, "user_properties", ()):
            if name == FAULT and report.when == "call":
                counts[value[0]] += value[1]
    if counts:
        rows = [f"| {fault} | {times} | 0 |" for fault, times in sorted(counts.items())]
        table = ["| injected | times | lost or doubled |", "|---|---|---|", *rows, f"| all | {counts.total()} | 0 |"]
        terminalreporter.write_line("\n".join(table))
