"""Checkpoints of a training, read only where they are whole."""

import zipfile
from pathlib import Path
from typing import Any

import torch

from mining.errors import ModelError
from mining.storage.untrusted_files import open_input

_NEEDED = ("epoch", "state_dict", "optimizer_states", "loops")


def read_checkpoint(path: Path) -> dict[str, Any]:
    """The content of a checkpoint that Lightning wrote, on the CPU. Raises ModelError where it is damaged."""
    try:
        with open_input(path) as file, zipfile.ZipFile(file) as archive:
            damaged = archive.testzip()
        if damaged is not None:
            raise ValueError(f"the checksum of {damaged} does not match")
        content = torch.load(path, map_location="cpu", weights_only=True)
        missing = [name for name in _NEEDED if name not in content]
        if missing:
            raise ValueError(f"it has no {missing[0]}")
    except Exception as error:  # whatever zipfile and torch make of damaged bytes
        reason = next(iter(str(error).splitlines()), "") or type(error).__name__
        raise ModelError(
            f"{path} is damaged ({reason.rstrip('.'):.200}). Delete {path.parent} and run the same command again to "
            "train from the start."
        ) from None
    return dict(content)
