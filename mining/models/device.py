"""The device that a name stands for."""

import torch

from mining.errors import ModelError


def resolve_device(name: str) -> torch.device:
    """'auto' to the GPU where there is one; raises ModelError when the device asked for is not there."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ModelError(f"Device {name!r} cannot be used: {str(error).splitlines()[0]} Try auto or cpu.") from None
    return device
