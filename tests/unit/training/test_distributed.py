"""The shares of several devices, as far as one process can test them."""

from itertools import chain
from pathlib import Path

import pytest
import torch

from mining.config import DetectorSettings, TrainSettings
from mining.detection.data import WholeBatches
from mining.training.data import ShuffledSampler, device_share
from mining.training.distributed import all_gather, divisor_of_losses, is_distributed


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


@pytest.mark.parametrize(
    ("gpus", "device", "devices", "several"),
    [
        (0, "auto", "auto", False),
        (1, "auto", "auto", False),
        (4, "auto", "auto", True),
        (4, "cuda", "auto", True),
        (4, "cuda", "1", False),
        (4, "cuda:1", "auto", False),
        (4, "cpu", "auto", False),
        (0, "cpu", 2, True),
        (4, "cuda", "0,2", True),
    ],
)
def test_whether_a_detector_will_have_several_processes(
    monkeypatch: pytest.MonkeyPatch, gpus: int, device: str, devices: str | int, several: bool
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    assert is_distributed(DetectorSettings(device=device, devices=devices)) is several  # type: ignore[arg-type]


def test_one_gpu_by_its_number_is_not_several() -> None:
    with pytest.raises(ValueError, match=r"`device` cuda:1 is one GPU: omit `devices` 2"):
        DetectorSettings(device="cuda:1", devices="2")


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


@pytest.mark.parametrize(("images", "batch", "used"), [(24, 8, 24), (27, 8, 24), (7, 8, 7), (8, 8, 8)])
@pytest.mark.parametrize("devices", [1, 2, 4])
def test_the_batches_of_a_detector_on_all_devices_are_those_of_one(
    images: int, batch: int, used: int, devices: int
) -> None:
    torch.manual_seed(3)
    order = list(WholeBatches(images, batch))
    assert len(order) == len(WholeBatches(images, batch)) == used
    shares = [list(device_share(WholeBatches(images, batch), rank, devices)) for rank in range(devices)]
    own = batch // devices
    for step in range(max(1, used // batch)):
        together = {item for share in shares for item in share[step * own : (step + 1) * own]}
        assert together == set(order[step * batch : (step + 1) * batch])


def test_losses_of_one_device_are_divided_by_their_own_number() -> None:
    assert divisor_of_losses(torch.tensor(3.5)) == 3.5
    assert divisor_of_losses(torch.tensor(0.0)) == 1


def test_a_single_process_gathers_its_own_value() -> None:
    assert all_gather({"a": 1}) == [{"a": 1}]
