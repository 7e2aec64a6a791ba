"""Which runtime computes a localizer's passes, and with which precision."""

from dataclasses import dataclass
from typing import Any, Literal

import torch

from mining.config import Precision, Runtime
from mining.errors import ModelError
from mining.models.device import cpu_has_bfloat16
from mining.runtimes.openvino_core import openvino_core
from mining.runtimes.requirements import has_openvino, refuse_int8_elsewhere

_DTYPES = {"float16": torch.float16, "bfloat16": torch.bfloat16}


@dataclass(frozen=True)
class Compute:
    """How passes are computed.

    Attributes:
        device: The device.
        runtime: The runtime.
        precision: The precision of the network's layers; the rest is computed in float32.
    """

    device: torch.device
    runtime: Literal["torch", "openvino"]
    precision: Literal["float32", "float16", "bfloat16", "int8"]

    def autocast(self, *, cache_enabled: bool = True) -> Any:
        """Return the context in which torch computes with this precision, and may keep the converted weights."""
        dtype = _DTYPES.get(self.precision) if self.runtime == "torch" else None
        return torch.autocast(self.device.type, dtype=dtype, enabled=dtype is not None, cache_enabled=cache_enabled)

    def describe(self) -> str:
        """Return e.g. `cpu (openvino, bfloat16)`, or the name of the GPU instead of `cpu`."""
        name = torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else self.device.type
        return f"{name} ({self.runtime}, {self.precision})"


def choose_compute(device: torch.device, runtime: Runtime, precision: Precision) -> Compute:
    """Choose what `auto` stands for.

    Args:
        device: The device.
        runtime: `auto` is OpenVINO on a CPU if it is installed.
        precision: `auto` is float16 on a CUDA device, bfloat16 with OpenVINO on a CPU that has instructions for it,
            otherwise float32.

    Raises:
        ModelError: The device does not have what was asked for.
    """
    on_cpu = device.type == "cpu"
    refuse_int8_elsewhere(runtime, precision, on_cpu=on_cpu)
    if runtime == "openvino" and not on_cpu:
        raise ModelError(f"--runtime openvino computes on the CPU, not on {device}; leave out one of the two.")
    if runtime == "openvino" and not has_openvino():
        raise ModelError("--runtime openvino needs the package openvino: pip install openvino.")
    chosen: Literal["torch", "openvino"] = "openvino" if on_cpu and runtime != "torch" and has_openvino() else "torch"
    if precision == "auto":
        if device.type == "cuda":
            return Compute(device, chosen, "float16")
        return Compute(device, chosen, "bfloat16" if chosen == "openvino" and _has_bfloat16() else "float32")
    return Compute(device, chosen, precision)


def _has_bfloat16() -> bool:
    """Whether the CPU computes with bfloat16.

    OpenVINO also lists bfloat16 for CPUs with AVX-512 that lack its instructions; there it is emulated, which takes 3.5
    times as long as float32.
    """
    is_listed = "BF16" in openvino_core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    return is_listed and cpu_has_bfloat16()
