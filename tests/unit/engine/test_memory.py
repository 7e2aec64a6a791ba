"""Batches are halved when memory runs out."""

from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

import pytest
import torch
from torch import Tensor

from mining.errors import ModelError
from mining.localizers.base import ClassChoice, Localization
from mining.runs.shard_mining import mine_shard
from tests.factories import register_localizer
from tests.unit.engine.painting import BOX, ImageResult, Painted, comparable, planned_run, scene


class LimitedMemory(Painted):
    """Raises an error for more than `room` pixels per pass, and records the batch sizes it was given."""

    name: ClassVar[str] = "greedy"
    room: ClassVar[int] = 0
    asked: ClassVar[list[int]] = []
    error: ClassVar[type[RuntimeError]] = torch.OutOfMemoryError
    words: ClassVar[str] = "CUDA out of memory. Tried to allocate 20.00 GiB."

    def localize(self, images: Tensor, classes: ClassChoice) -> Localization:
        self.asked.append(len(images))
        if images[:, 0].numel() > self.room:
            raise self.error(self.words)
        return super().localize(images, classes)


@pytest.fixture
def limited_memory(monkeypatch: pytest.MonkeyPatch) -> type[LimitedMemory]:
    register_localizer(monkeypatch, LimitedMemory)
    monkeypatch.setattr(LimitedMemory, "asked", [])
    return LimitedMemory


SIMILAR_IMAGES = {f"{number}.png": scene((BOX, (255 - number, 0, 0))) for number in range(9)}


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (torch.OutOfMemoryError, "CUDA out of memory. Tried to allocate 20.00 GiB."),
        (RuntimeError, "[enforce fail at alloc_cpu.cpp:124] err == 0. DefaultCPUAllocator: can't allocate memory"),
    ],
)
def test_batches_are_halved_when_out_of_memory_and_no_image_is_lost(
    mined: Callable[..., dict[str, ImageResult]],
    limited_memory: type[LimitedMemory],
    monkeypatch: pytest.MonkeyPatch,
    error: type[RuntimeError],
    words: str,
) -> None:
    monkeypatch.setattr(limited_memory, "room", 2 * 64 * 96)
    monkeypatch.setattr(limited_memory, "error", error)
    monkeypatch.setattr(limited_memory, "words", words)
    found = mined(SIMILAR_IMAGES, dict.fromkeys(SIMILAR_IMAGES, ("red",)), localizer="greedy", batch_size=8, workers=1)
    assert limited_memory.asked == [8, 4, 2, 2, 4, 2, 2, 1], (
        "halved once for the rest of the batch, and kept for later batches"
    )
    expected = mined(SIMILAR_IMAGES, dict.fromkeys(SIMILAR_IMAGES, ("red",)))
    assert comparable(found) == [
        (*one[:3], [{**row, "localizer": "greedy"} for row in one[3]]) for one in comparable(expected)
    ]


def test_later_batches_keep_the_reduced_size(
    mined: Callable[..., dict[str, ImageResult]], limited_memory: type[LimitedMemory], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limited_memory, "room", 3 * 64 * 96)
    mined(SIMILAR_IMAGES, dict.fromkeys(SIMILAR_IMAGES, ("red",)), localizer="greedy", batch_size=4, workers=1)
    assert limited_memory.asked == [4, 2, 2, 2, 2, 1]


def test_batches_of_additional_scales_are_halved_too(
    mined: Callable[..., dict[str, ImageResult]], limited_memory: type[LimitedMemory], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two images at scale 2 have as many pixels as eight at scale 1."""
    monkeypatch.setattr(limited_memory, "room", 4 * 64 * 96)
    found = mined(
        SIMILAR_IMAGES,
        dict.fromkeys(SIMILAR_IMAGES, ("red",)),
        localizer="greedy",
        batch_size=8,
        scales=(1.0, 2.0),
        workers=1,
    )
    assert [one.boxes for one in found.values()] == [[BOX]] * 9
    assert max(limited_memory.asked[1:]) == 4


def test_the_error_for_too_little_memory_for_one_image_suggests_smaller_scales(
    tmp_path: Path, limited_memory: type[LimitedMemory], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limited_memory, "room", 0)
    run = planned_run(tmp_path, SIMILAR_IMAGES, dict.fromkeys(SIMILAR_IMAGES, ("red",)), localizer="greedy")
    with pytest.raises(ModelError, match=r"lacks the memory for one image at scales 1\.0; give smaller --scales"):
        mine_shard(run, 0)


def test_other_runtime_errors_are_not_treated_as_out_of_memory(
    tmp_path: Path, limited_memory: type[LimitedMemory], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limited_memory, "error", RuntimeError)
    monkeypatch.setattr(limited_memory, "words", "mat1 and mat2 shapes cannot be multiplied")
    run = planned_run(tmp_path, SIMILAR_IMAGES, dict.fromkeys(SIMILAR_IMAGES, ("red",)), localizer="greedy")
    with pytest.raises(RuntimeError, match="cannot be multiplied"):
        mine_shard(run, 0)
    assert limited_memory.asked[0] == 1
