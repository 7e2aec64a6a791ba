"""Training on several devices: Lightning starts a process a device, and each sees its share of the images."""

import os
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from mining.config import TrainSettings

if TYPE_CHECKING:
    from subprocess import Popen

T = TypeVar("T")
EXIT_TIMEOUT_S = 5.0  # from the end of a process's connections to its own


def is_rank_zero() -> bool:
    """False in the processes that Lightning starts for further devices; the first one reads, writes and tells."""
    return os.environ.get("LOCAL_RANK", "0") == "0"


def is_distributed(settings: TrainSettings) -> bool:
    """Whether the training will have more than one process."""
    if settings.devices not in ("auto", "-1"):
        number, *others = settings.devices.split(",")  # Lightning takes "2" for a number, "0,1" for their names
        return len([one for one in others if one.strip()]) > 0 or (not others and int(number) > 1)
    if settings.accelerator not in ("auto", "gpu", "cuda"):
        return False
    import torch

    return torch.cuda.device_count() > 1


def all_gather(value: T) -> list[T]:
    """The value of each process that trains, by rank; must be called by all of them."""
    import torch.distributed as processes

    if not (processes.is_available() and processes.is_initialized()):
        return [value]
    found: list[Any] = [None] * processes.get_world_size()
    processes.all_gather_object(found, value)
    return found


def exit_code_of_lost(processes: "Sequence[Popen[Any]]") -> int | None:
    """The exit code of a further device's process that failed or was killed; None where all are well."""
    ends = time.monotonic() + EXIT_TIMEOUT_S
    while processes and time.monotonic() < ends:
        for process in processes:
            if process.poll():
                return process.returncode
        time.sleep(0.1)
    return None
