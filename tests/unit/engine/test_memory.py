"""Batches are halved where memory is short."""

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
from tests.unit.engine.painting import BOX, Found, Painted, opened, scene, told


class Greedy(Painted):
    """Has memory for so many pixels in a pass, and says which numbers of images it was given."""

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
def greedy(monkeypatch: pytest.MonkeyPatch) -> type[Greedy]:
    register_localizer(monkeypatch, Greedy)
    monkeypatch.setattr(Greedy, "asked", [])
    return Greedy


ALIKE = {f"{number}.png": scene((BOX, (255 - number, 0, 0))) for number in range(9)}


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (torch.OutOfMemoryError, "CUDA out of memory. Tried to allocate 20.00 GiB."),
        (RuntimeError, "[enforce fail at alloc_cpu.cpp:124] err == 0. DefaultCPUAllocator: can't allocate memory"),
    ],
)
def test_where_memory_is_short_batches_are_halved_and_nothing_is_lost(
    mined: Callable[..., dict[str, Found]],
    greedy: type[Greedy],
    monkeypatch: pytest.MonkeyPatch,
    error: type[RuntimeError],
    words: str,
) -> None:
    monkeypatch.setattr(greedy, "room", 2 * 64 * 96)
    monkeypatch.setattr(greedy, "error", error)
    monkeypatch.setattr(greedy, "words", words)
    found = mined(ALIKE, dict.fromkeys(ALIKE, ("red",)), localizer="greedy", batch_size=8)
    assert greedy.asked == [8, 4, 2, 2, 4, 2, 2, 1], "halved once for the rest of the batch, and for good"
    expected = mined(ALIKE, dict.fromkeys(ALIKE, ("red",)))
    assert told(found) == [(*one[:3], [{**row, "localizer": "greedy"} for row in one[3]]) for one in told(expected)]


def test_later_batches_are_as_small_as_memory_asked_for(
    mined: Callable[..., dict[str, Found]], greedy: type[Greedy], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(greedy, "room", 3 * 64 * 96)
    mined(ALIKE, dict.fromkeys(ALIKE, ("red",)), localizer="greedy", batch_size=4)
    assert greedy.asked == [4, 2, 2, 2, 2, 1]


def test_further_scales_are_halved_too(
    mined: Callable[..., dict[str, Found]], greedy: type[Greedy], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Eight images of scale 1 would be two at scale 2."""
    monkeypatch.setattr(greedy, "room", 4 * 64 * 96)
    found = mined(ALIKE, dict.fromkeys(ALIKE, ("red",)), localizer="greedy", batch_size=8, scales=(1.0, 2.0))
    assert [one.boxes for one in found.values()] == [[BOX]] * 9
    assert max(greedy.asked[1:]) == 4


def test_no_memory_for_one_image_is_said_with_the_remedy(
    tmp_path: Path, greedy: type[Greedy], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(greedy, "room", 0)
    run = opened(tmp_path, ALIKE, dict.fromkeys(ALIKE, ("red",)), localizer="greedy")
    with pytest.raises(ModelError, match=r"lacks the memory for one image at scales 1\.0; give smaller --scales"):
        mine_shard(run, 0)


def test_other_errors_of_the_network_are_not_taken_for_a_lack_of_memory(
    tmp_path: Path, greedy: type[Greedy], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(greedy, "error", RuntimeError)
    monkeypatch.setattr(greedy, "words", "mat1 and mat2 shapes cannot be multiplied")
    run = opened(tmp_path, ALIKE, dict.fromkeys(ALIKE, ("red",)), localizer="greedy")
    with pytest.raises(RuntimeError, match="cannot be multiplied"):
        mine_shard(run, 0)
    assert greedy.asked == [4]
