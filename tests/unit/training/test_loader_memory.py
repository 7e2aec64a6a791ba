"""Loader workers with little shared memory, such as the 64 MB of a container."""

import shutil
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from mining.config import TrainSettings
from mining.training.job import train
from mining.training.loader_memory import workers_that_fit
from tests.factories import register_tiny_backbone, write_photos

BATCH = 16 * 3 * 224 * 224


class Usage(NamedTuple):
    total: int
    used: int
    free: int


@pytest.fixture
def free(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Set the free bytes of shared memory."""

    def have(count: int) -> None:
        monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(count, 0, count))

    return have


def test_a_large_shared_memory_fits_all_workers(free: Any, tmp_path: Path) -> None:
    free(24_000_000_000)
    assert workers_that_fit(8, BATCH, loaders=2, folder=tmp_path) == (8, [])


def test_a_containers_shared_memory_fits_fewer_workers_and_a_note_says_so(free: Any, tmp_path: Path) -> None:
    free(64_000_000)
    workers, (note,) = workers_that_fit(8, BATCH, loaders=2, folder=tmp_path)
    assert workers == 3
    assert workers * 2 * 3 * BATCH <= 64_000_000
    assert "64 MB free" in note
    assert "3 of 8 loader workers are used" in note
    assert "--shm-size" in note


def test_a_tiny_shared_memory_fits_no_worker(free: Any, tmp_path: Path) -> None:
    free(1_000_000)
    workers, (note,) = workers_that_fit(8, BATCH, loaders=2, folder=tmp_path)
    assert workers == 0
    assert "loaded in the training process" in note


def test_each_device_has_workers_of_its_own(free: Any, tmp_path: Path) -> None:
    free(64_000_000)
    assert workers_that_fit(8, BATCH, loaders=2, processes=2, folder=tmp_path)[0] == 1


def test_without_the_folder_there_is_no_limit(tmp_path: Path) -> None:
    assert workers_that_fit(8, 10**15, loaders=2, folder=tmp_path / "nowhere") == (8, [])
    assert workers_that_fit(0, 10**15, loaders=2, folder=tmp_path) == (0, [])


def test_a_training_with_little_shared_memory_finishes_with_a_note(
    free: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    register_tiny_backbone(monkeypatch)
    write_photos(tmp_path / "photos" / "cat", [f"{n}.jpg" for n in range(4)])
    write_photos(tmp_path / "photos" / "dog", [f"{n}.jpg" for n in range(4)])
    free(1000)
    settings = TrainSettings(
        images=tmp_path / "photos", out=tmp_path / "model", backbone="tiny", weights="none", freeze=False, epochs=1,
        batch_size=4, workers=4, accelerator="cpu", validation_share=0,
    )  # fmt: skip
    (note,) = [note for note in train(settings).notes if "loader workers" in note]
    assert "loaded in the training process" in note
