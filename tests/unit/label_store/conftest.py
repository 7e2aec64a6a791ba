"""What the label store's tests share."""

from pathlib import Path

import pytest

from tests.unit.engine.painting import list_painted
from tests.unit.label_store.desk import Desk


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Desk:
    list_painted(monkeypatch)
    return Desk(tmp_path)
