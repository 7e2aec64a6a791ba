"""A label project for each test of the label store."""

from pathlib import Path

import pytest

from tests.unit.engine.painting import list_painted
from tests.unit.label_store.project import LabelProject


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LabelProject:
    list_painted(monkeypatch)
    return LabelProject(tmp_path)
