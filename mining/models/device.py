"""The device that a name stands for."""

import os

import torch

from mining.errors import ModelError


def resolve_device(name: str) -> torch.device:
    """Return the device of a name; 'auto' is the GPU where there is one, otherwise the CPU.

    Raises:
        ModelError: The device does not exist.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ModelError(f"Device {name!r} cannot be used: {str(error).splitlines()[0]} Try auto or cpu.") from None
    return device


def cpu_has_bfloat16() -> bool:
    """Return whether the CPU has instructions for bfloat16; elsewhere it is emulated, which is slower than float32."""
    return bool(torch.cpu._is_avx512_bf16_supported())


def visible_gpus(name: str) -> list[str]:
    """List the GPUs of a device name, as CUDA_VISIBLE_DEVICES names them.

    CUDA is not initialised, which would take memory of a GPU.

    Args:
        name: See `resolve_device`.

    Returns:
        One name per GPU; empty where the device is not 'auto' or 'cuda', or there is no GPU.
    """
    if name not in ("auto", "cuda"):
        return []
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    count = torch.cuda.device_count()
    return [str(number) for number in range(count)] if visible is None else visible.split(",")[:count]
