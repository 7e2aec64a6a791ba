"""The shares of several devices, as far as one process can test them."""

from itertools import chain
from pathlib import Path

import pytest
import torch

from mining.config import TrainSettings
from mining.training.data import ShuffledSampler, device_share
from mining.training.distributed import all_gather, is_distributed


@pytest.mark.parametrize(
    ("gpus", "accelerator", "devices", "several"),
    [
        (0, "auto", "auto", False),
        (1, "auto", "auto", False),
        (4, "auto", "auto", True),
        (4, "gpu", "-1", True),
        (4, "cpu", "auto", False),
        (4, "gpu", "1", False),
        (0, "cpu", "2", True),
        (4, "gpu", "3,", False),
        (4, "gpu", "0,2", True),
    ],
)
def test_whether_there_will_be_several_processes(
    monkeypatch: pytest.MonkeyPatch, gpus: int, accelerator: str, devices: str, several: bool
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    settings = TrainSettings(images=Path("photos"), out=Path("out"), accelerator=accelerator, devices=devices)
    assert is_distributed(settings) is several


def drawn(count: int, batch: int, devices: int) -> list[list[list[tuple[int, int]]]]:
    """The batches of an epoch, per device."""
    torch.manual_seed(3)
    shares = [list(device_share(ShuffledSampler(count), rank, devices)) for rank in range(devices)]
    assert all(len(share) == len(device_share(ShuffledSampler(count), 0, devices)) for share in shares)
    return [[share[at : at + batch] for at in range(0, len(share), batch)] for share in shares]


@pytest.mark.parametrize("devices", [1, 2, 4])
def test_the_batches_of_all_devices_are_those_of_one(devices: int) -> None:
    (alone,) = drawn(24, 8, 1)
    together = [sorted(chain(*step)) for step in zip(*drawn(24, 8 // devices, devices), strict=True)]
    assert together == [sorted(batch) for batch in alone]


def test_if_images_do_not_divide_some_are_repeated_and_none_is_left_out() -> None:
    seen = [place for device in drawn(7, 2, 3) for batch in device for place, _ in batch]
    assert sorted(set(seen)) == list(range(7))
    assert len(seen) == 9


def test_a_single_process_gathers_its_own_value() -> None:
    assert all_gather({"a": 1}) == [{"a": 1}]
