"""Training on several devices: Lightning starts one process per device, and each gets its share of the images."""

import os
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from mining.config import TrainSettings

if TYPE_CHECKING:
    from subprocess import Popen

T = TypeVar("T")
EXIT_TIMEOUT_S = 5.0  # a process may end a little later than its connections


def is_rank_zero() -> bool:
    """Return whether this is the first process, which reads, writes and reports; Lightning starts the others."""
    return os.environ.get("LOCAL_RANK", "0") == "0"


def is_distributed(settings: TrainSettings) -> bool:
    """Return whether the training will have more than one process."""
    if settings.devices not in ("auto", "-1"):
        number, *others = settings.devices.split(
            ","
        )  # for Lightning "2" is a number of devices, "0,1" are their indices
        return len([index for index in others if index.strip()]) > 0 or (not others and int(number) > 1)
    if settings.accelerator not in ("auto", "gpu", "cuda"):
        return False
    import torch

    return torch.cuda.device_count() > 1


def all_gather(value: T) -> list[T]:
    """Return the value of each training process, by rank; all of them must call it."""
    import torch.distributed as processes

    if not (processes.is_available() and processes.is_initialized()):
        return [value]
    values: list[Any] = [None] * processes.get_world_size()
    processes.all_gather_object(values, value)
    return values


def exit_code_of_lost(processes: "Sequence[Popen[Any]]") -> int | None:
    """Return the exit code of a further device's process that failed or was killed; None where there is none."""
    deadline = time.monotonic() + EXIT_TIMEOUT_S
    while processes and time.monotonic() < deadline:
        for process in processes:
            if process.poll():
                return process.returncode
        time.sleep(0.1)
    return None
