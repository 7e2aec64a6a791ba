"""In which process a detector is trained, and how."""

from typing import TypeVar

from mining.config.bootstrap import BootstrapSettings
from mining.config.proof import ProofSettings
from tasks.orchestration import orchestrated
from tasks.trainer import Job, Progress
from tasks.training_process import refuse_torchrun, train_in_subprocess

S = TypeVar("S", BootstrapSettings, ProofSettings)


def takes_several_devices(settings: BootstrapSettings | ProofSettings) -> bool:
    """Return whether a detector is trained on several devices, for which `train_on_devices` starts processes.

    Raises:
        InputError: The command was started by torchrun, which starts all processes at once.
    """
    from mining.training.distributed import is_distributed

    refuse_torchrun()
    return is_distributed(settings.detector)


def train_on_devices(job: Job, settings: BootstrapSettings | ProofSettings, argument: str, progress: Progress) -> int:
    """Train a detector on several devices; returns the number of boxes that it learned from.

    Args:
        job: One of `tasks.trainer.JOBS` that trains a detector.
        settings: The recipe.
        argument: Which of its detectors.
        progress: Called after each step with steps done, steps planned and a text.

    Raises:
        ProcessLostError: The process of a device ended.
    """
    # without the defaults, because some settings exclude each other if both are given
    recipe = settings.model_dump_json(exclude_unset=True)
    boxes: int = train_in_subprocess(job, recipe, argument, progress=progress)
    return boxes


def without_loader_processes(settings: S) -> S:
    """Return settings whose detector is trained without loader processes inside a Prefect flow run, else the same.

    Processes that are forked while Prefect's threads run end with code 1, which the loader takes for a failure.
    """
    if not orchestrated():
        return settings
    return settings.model_copy(update={"detector": settings.detector.model_copy(update={"workers": 0})})
