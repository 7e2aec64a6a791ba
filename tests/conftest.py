"""Where real photos and peers' numbers lie, for the tests that need them; and a way to see progress."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tasks import progress

SHARED = Path(__file__).parents[2] / "shared"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests that run Prefect in this process go last: what is forked from it afterwards ends with code 1."""
    items.sort(key=lambda item: "under Prefect" in item.name or "under_prefect" in getattr(item, "fixturenames", ()))


@pytest.fixture(scope="session")
def pack() -> Callable[[str], Path]:
    """The folder of a pack of real photos by its name; skips the test where it is not there."""

    def folder(name: str) -> Path:
        found = Path(os.environ.get("BOXMINE_DATA", SHARED / "data")) / name
        if not found.is_dir():
            pytest.skip(f"no photos at {found}: set BOXMINE_DATA to the folder that holds {name}")
        return found

    return folder


@pytest.fixture(scope="session")
def oracle() -> Callable[[str], Path]:
    """A folder of numbers that peers' own code gave; skips the test where it is not there."""

    def folder(name: str) -> Path:
        found = Path(os.environ.get("BOXMINE_ORACLES", SHARED / "oracles")) / name
        if not found.is_dir():
            pytest.skip(f"no numbers at {found}: set BOXMINE_ORACLES to the folder that holds {name}")
        return found

    return folder


@pytest.fixture
def at_progress() -> Iterator[Callable[[Callable[[int], None]], None]]:
    """Have a function called with the number of images that are done, whenever that is told."""
    yield lambda function: progress.listen(lambda stage, done, total, text: function(done))
    progress.listen(lambda stage, done, total, text: None)
