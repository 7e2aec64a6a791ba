"""How many loader workers fit into shared memory, through which they pass their batches."""

import shutil
from pathlib import Path

SHARED_MEMORY = Path("/dev/shm")
_BATCHES_PER_WORKER = 3  # two that wait, and one in preparation
_USABLE_SHARE = 0.8  # other programs use it too


def workers_that_fit(
    wanted: int, batch_bytes: int, *, loaders: int, processes: int = 1, folder: Path = SHARED_MEMORY
) -> tuple[int, list[str]]:
    """Compute how many loader workers fit into shared memory.

    A worker that runs out of it is killed, and the training waits for it forever.

    Args:
        wanted: Workers of each loader.
        batch_bytes: Size of one batch.
        loaders: Loaders with their own workers per process (training, validation).
        processes: Processes that train at the same time on this machine.
        folder: Where shared memory is mounted; a system without this folder has no such limit.

    Returns:
        The number of workers, and a sentence where it is smaller than wanted.
    """
    if not wanted or not folder.is_dir():
        return wanted, []
    free = shutil.disk_usage(folder).free
    per_worker = _BATCHES_PER_WORKER * max(batch_bytes, 1) * loaders * processes
    fit = min(wanted, int(free * _USABLE_SHARE) // per_worker)
    if fit == wanted:
        return wanted, []
    needed = wanted * per_worker / _USABLE_SHARE
    what = f"{fit} of {wanted} loader workers are used" if fit else "images are loaded in the training process"
    return fit, [
        f"{folder} has {free / 1e6:.0f} MB free and {wanted} loader workers need {needed / 1e6:.0f} MB, so {what}. "
        "Give more shared memory (docker run --shm-size 1g) to train faster."
    ]
