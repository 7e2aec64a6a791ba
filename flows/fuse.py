"""Combine the boxes of several runs of the same images."""

from mining.config import FuseSettings
from mining.fusion.run_fusion import FusedRuns
from tasks.fusing import fuse_runs


def fuse(settings: FuseSettings) -> FusedRuns:
    """Write a new run with the combined boxes of finished ones."""
    return fuse_runs(settings.runs, settings.out, settings.min_runs)
