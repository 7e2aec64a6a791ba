"""A small run for each test."""

from pathlib import Path

import pytest

from tests.unit.quality.small_run import SmallRun


@pytest.fixture
def small(tmp_path: Path) -> SmallRun:
    return SmallRun(tmp_path / "run")
