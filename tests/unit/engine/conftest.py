"""Fixtures shared by the tests of the engine."""

from collections.abc import Callable, Mapping
from typing import Any

import pytest

from mining.runs.shard_mining import mine_shard
from tests.unit.engine.painting import (
    ImageResult,
    Labels,
    Picture,
    list_painted,
    planned_run,
    results_by_file,
)


@pytest.fixture(autouse=True)
def _register_painted(monkeypatch: pytest.MonkeyPatch) -> None:
    list_painted(monkeypatch)


@pytest.fixture
def mined(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., dict[str, ImageResult]]:
    """Mine a corpus of one shard; return the results by file name."""

    def mine(pictures: Mapping[str, Picture], labels: Labels | None, **options: Any) -> dict[str, ImageResult]:
        run = planned_run(tmp_path_factory.mktemp("mined"), pictures, labels, **options)
        mine_shard(run, 0)
        return results_by_file(run)

    return mine


@pytest.fixture
def mine_one(mined: Callable[..., dict[str, ImageResult]]) -> Callable[..., ImageResult]:
    """Mine one image with the given labels."""

    def mine(picture: Picture, *labels: str, **options: Any) -> ImageResult:
        return mined({"a.png": picture}, {"a.png": labels}, **options)["a.png"]

    return mine
