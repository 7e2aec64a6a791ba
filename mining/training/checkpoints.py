"""Read the checkpoints of a training, after checking that they are undamaged."""

import zipfile
from pathlib import Path
from typing import Any

import torch

from mining.errors import ModelError
from mining.storage.untrusted_files import open_input

_NEEDED = ("epoch", "state_dict", "optimizer_states", "loops")


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint that Lightning wrote, onto the CPU.

    Raises:
        ModelError: The file is damaged.
    """
    try:
        with open_input(path) as file, zipfile.ZipFile(file) as archive:
            damaged = archive.testzip()
        if damaged is not None:
            raise ValueError(f"the checksum of {damaged} does not match")
        content = torch.load(path, map_location="cpu", weights_only=True)
        missing = [name for name in _NEEDED if name not in content]
        if missing:
            raise ValueError(f"it has no {missing[0]}")
    except Exception as error:  # whatever zipfile and torch raise on damaged bytes
        reason = next(iter(str(error).splitlines()), "") or type(error).__name__
        raise ModelError(
            f"{path} is damaged ({reason.rstrip('.'):.200}). Delete {path.parent} and run the same command again to "
            "train from the start."
        ) from None
    return dict(content)
