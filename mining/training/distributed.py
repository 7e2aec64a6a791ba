"""Training on several devices: Lightning starts one process per device, and each gets its share of the images."""

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from mining.config.detector import DetectorExecutionOptions
from mining.config.execution import TrainExecutionOptions
from mining.errors import ProcessLostError, describe_exit_code

if TYPE_CHECKING:
    from subprocess import Popen

    import lightning
    from torch import Tensor

T = TypeVar("T")
EXIT_TIMEOUT_S = 5.0  # a process may end a little later than its connections


def is_rank_zero() -> bool:
    """Return whether this is the first process, which reads, writes and reports; Lightning starts the others."""
    return os.environ.get("LOCAL_RANK", "0") == "0"


def is_distributed(settings: TrainExecutionOptions | DetectorExecutionOptions) -> bool:
    """Return whether the training will have more than one process."""
    if settings.devices not in ("auto", "-1"):
        number, *others = settings.devices.split(
            ","
        )  # for Lightning "2" is a number of devices, "0,1" are their indices
        return len([index for index in others if index.strip()]) > 0 or (not others and int(number) > 1)
    kind = settings.accelerator if isinstance(settings, TrainExecutionOptions) else settings.device
    if kind not in ("auto", "gpu", "cuda"):
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


def divisor_of_losses(count: "Tensor") -> "Tensor":
    """Return what the summed losses of this device are divided by, so that all devices together have the mean.

    The gradients are averaged over the devices. A sum over the items of one device is therefore divided by the items of
    all devices, over the number of devices.

    Args:
        count: Scalar, number or total weight of this device's items. All devices must call it equally often.

    Returns:
        A scalar without gradient: of a single device its count, at least 1.
    """
    import torch.distributed as processes

    total = count.detach().clone()
    if not (processes.is_available() and processes.is_initialized()):
        return total.clamp(min=1)
    processes.all_reduce(total)
    return total.clamp(min=1) / processes.get_world_size()


@contextmanager
def lost_processes_named(trainer: "lightning.Trainer") -> Iterator[None]:
    """Turn whatever the backend raises when its connection is cut into an error that says which process ended.

    Raises:
        ProcessLostError: The process of a further device failed or was killed.
    """
    try:
        yield
    except RuntimeError as error:
        code = exit_code_of_lost(getattr(trainer.strategy.launcher, "procs", []))
        if code is None:
            raise
        raise ProcessLostError(
            f"The process of a further device {describe_exit_code(code)}. Run the same command again to resume."
        ) from error


def exit_code_of_lost(processes: "Sequence[Popen[Any]]") -> int | None:
    """Return the exit code of a further device's process that failed or was killed; None where there is none."""
    deadline = time.monotonic() + EXIT_TIMEOUT_S
    while processes and time.monotonic() < deadline:
        for process in processes:
            if process.poll():
                return process.returncode
        time.sleep(0.1)
    return None
