"""What the engine's tests share."""

from collections.abc import Callable, Mapping
from typing import Any

import pytest

from mining.runs.shard_mining import mine_shard
from tests.unit.engine.painting import (
    Found,
    Labels,
    Picture,
    found_in,
    list_painted,
    opened,
)


@pytest.fixture(autouse=True)
def _listed(monkeypatch: pytest.MonkeyPatch) -> None:
    list_painted(monkeypatch)


@pytest.fixture
def mined(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., dict[str, Found]]:
    """Mines a corpus of one shard; gives what was found by file name."""

    def mine(pictures: Mapping[str, Picture], labels: Labels | None, **options: Any) -> dict[str, Found]:
        run = opened(tmp_path_factory.mktemp("mined"), pictures, labels, **options)
        mine_shard(run, 0)
        return found_in(run)

    return mine


@pytest.fixture
def one(mined: Callable[..., dict[str, Found]]) -> Callable[..., Found]:
    """Mines one picture with the labels given."""

    def mine(picture: Picture, *labels: str, **options: Any) -> Found:
        return mined({"a.png": picture}, {"a.png": labels}, **options)["a.png"]

    return mine
