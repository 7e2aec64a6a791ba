"""How a run or a training is executed: settings that decide neither a box nor a weight.

What is computed and how it is executed are different classes, so that a run's identity is a class's fields, not a list:

- `MineOptions` decide the boxes. A label store mines an image again when one of them changed.
- `ShardOptions` decide which images share a forward pass. That shows in the last digit of a score, not in a box, so
  labels stay valid; but one run keeps to its own, since the corpus table is divided by them.
- `ExecutionOptions` may change whenever a run is resumed: another machine may lack the device.
- `curves` is one of these: it decides what is kept beside the boxes. A shard that was mined without the curves that are
  wanted now is mined again.
"""

import math
import os
import re
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, field_validator, model_validator

from mining.config.base import Settings

_DEVICE = re.compile(r"auto|cpu|mps|cuda(:\d{1,3})?")


def check_device(device: str) -> str:
    """Return a device's name; raises ValueError for any other text."""
    if not _DEVICE.fullmatch(device):
        raise ValueError("give auto, cpu, mps, cuda, or cuda:1 for the second GPU")
    return device


def check_devices(devices: Any) -> str:
    """Return Lightning's devices as text; raises ValueError for any other text. A recipe may have a number."""
    if not re.fullmatch(r"auto|-1|[1-9]\d?|\d{1,2},|\d{1,2}(,\d{1,2}){1,63}", str(devices)):
        raise ValueError("give auto, a number of devices (2, at most 99), or those to use (0,2 or 3,)")
    return str(devices)


Workers = Annotated[int, Field(ge=1, le=256)]
Runtime = Literal["auto", "torch", "openvino"]


class ShardOptions(Settings):
    """Which images share a forward pass."""

    batch_size: Annotated[int, Field(ge=1, le=4096)] | None = Field(
        default=None,
        description="Images per forward pass at scale 1; by default 1 on a CPU, and on a GPU as many as fit into its "
        "memory, at most 32. Halved if memory runs out.",
    )
    shard_size: Annotated[int, Field(ge=1, le=1_000_000)] = Field(
        default=256, description="Images per shard, the unit of work and of resumption."
    )


class ClusterOptions(Settings):
    """Which processes and machines mine the shards."""

    runner: Literal["local", "processes", "ray"] = Field(
        default="local",
        description="What mines the shards: local (this process), processes (of this machine, one per GPU), or ray (a "
        "cluster whose machines all have images, model and run directory under the same paths).",
    )
    runner_workers: Workers | None = Field(
        default=None,
        description="Shards that the runners processes and ray mine at a time; by default one per GPU (one process "
        "without a GPU), and as many as the Ray cluster has room for.",
    )
    cpus_per_worker: Workers | None = Field(
        default=None,
        description="Cores per worker, or of this process; by default processes share this machine's cores, and a Ray "
        "worker has one, or with a GPU its share of the node's.",
    )
    gpus_per_worker: Annotated[float, Field(ge=0, le=1)] | None = Field(
        default=None,
        description="Share of a GPU per Ray worker; by default a whole one if the cluster has GPUs and `device` is not "
        "cpu.",
    )
    ray_address: str | None = Field(
        default=None,
        description="Existing Ray cluster: auto, HOST:PORT or ray://HOST:PORT; by default one is started on this "
        "machine for the duration of the run.",
    )


class ExecutionOptions(ClusterOptions):
    """How a run is executed; may change whenever it is resumed."""

    curves: bool = Field(
        default=True,
        description="Keep the boxes at every other threshold, so that `boxmine score` can find the best one.",
    )
    workers: Workers | None = Field(
        default=None,
        description="Threads that decode images and extract boxes, and on a CPU run the network, each for an image of "
        "its own; by default one per core, at most 8. Boxes do not depend on it.",
    )
    device: Annotated[str, AfterValidator(check_device)] = Field(
        default="auto", description="auto (a GPU if there is one), cpu, cuda, cuda:1, mps."
    )
    runtime: Runtime = Field(
        default="auto",
        description="What runs the network: openvino (on a CPU), torch, or auto, which is openvino on a CPU if it is "
        "installed and can convert the model.",
    )
    retries: Annotated[int, Field(ge=0, le=100)] = Field(default=2, description="Retries of a shard that failed.")

    @model_validator(mode="after")
    def _check_device_for_runner(self) -> Self:
        if self.runner != "local" and ":" in self.device:
            raise ValueError(
                f"the runner {self.runner} gives each worker its GPU: `device` is then auto, cuda or cpu, "
                f"not {self.device}"
            )
        return self


class TrainExecutionOptions(Settings):
    """How a training is executed."""

    workers: Annotated[int, Field(ge=0, le=256)] | None = Field(
        default=None, description="Processes that decode and augment images; by default one per core, at most 8."
    )
    runtime: Runtime = Field(
        default="auto",
        description="What computes the features of a frozen backbone and the maps that the cell classifier learns "
        "from: openvino (on a CPU), torch, or auto, which is openvino on a CPU if it is installed and can convert the "
        "network. Everything else is trained by torch.",
    )
    accelerator: Literal["auto", "cpu", "gpu", "cuda", "mps"] = Field(
        default="auto", description="Lightning's accelerator."
    )
    devices: str = Field(
        default="auto",
        description="Lightning's devices: auto (every GPU), a number, or a list (0,2 or 3,). Each device has a process "
        "and its share of every batch.",
    )
    strategy: str = Field(default="auto", description="Lightning's strategy: auto, ddp, ...")
    pictures: Annotated[int, Field(ge=0, le=100_000)] = Field(
        default=0,
        description="Write pictures/epoch-NNNNN.jpg to the model folder every so many epochs, and after the last: the "
        "maps of 8 training images, and what the localizer computes on the way (SPG: its masks). 0 writes none.",
    )

    @field_validator("devices", mode="before")
    @classmethod
    def _check_devices(cls, devices: Any) -> str:
        return check_devices(devices)


def available_cores() -> int:
    """Return the number of processor cores that this process may use, by its affinity and its cgroup's quota.

    The load of other processes does not count: they leave this one its share of each core, which passes of one thread
    use in full.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = _cgroup_quota(Path("/sys/fs/cgroup"))
    return cores if quota is None else max(1, min(cores, math.ceil(quota)))


def _cgroup_quota(root: Path) -> float | None:
    """Return the number of cores that the quota of a container allows, as version 2 or 1 of cgroups states it."""
    try:
        limit, period = (root / "cpu.max").read_text().split()
    except (OSError, ValueError):
        try:
            limit, period = ((root / "cpu" / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period"))
        except OSError:
            return None
    try:
        return float(limit) / float(period) if float(limit) > 0 else None
    except (ValueError, ZeroDivisionError):  # "max" if there is no limit
        return None
