"""How detectors are trained inside a Prefect flow run."""

from typing import TypeVar

from mining.config.bootstrap import BootstrapSettings
from mining.config.proof import ProofSettings
from tasks.orchestration import orchestrated

S = TypeVar("S", BootstrapSettings, ProofSettings)


def without_loader_processes(settings: S) -> S:
    """Return settings whose detector is trained without loader processes inside a Prefect flow run, else the same.

    Processes that are forked while Prefect's threads run end with code 1, which the loader takes for a failure.
    """
    if not orchestrated():
        return settings
    return settings.model_copy(update={"detector": settings.detector.model_copy(update={"workers": 0})})
