"""Shared by the benchmarks: a measured figure, and the comparison of two functions."""

import os
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).parents[2]
ORACLES = Path(os.environ.get("BOXMINE_ORACLES", ROOT.parent / "shared" / "oracles"))
ROUNDS = 5


@dataclass(frozen=True)
class Figure:
    """One measured value.

    Attributes:
        goal: The value should be at most this, or at least this if `higher_is_better`; None if there is no goal.
    """

    value: float
    goal: float | None
    unit: str
    detail: str
    higher_is_better: bool = False

    @property
    def is_missed(self) -> bool:
        if self.goal is None:
            return False
        return self.value < self.goal if self.higher_is_better else self.value > self.goal


def compare_alternately(
    first: Callable[[], Any], second: Callable[[], Any], rounds: int = ROUNDS
) -> tuple[float, float, float]:
    """Run two functions alternately, after one unmeasured run of each.

    Returns:
        The median of the ratios first / second, and the median seconds of each.
    """
    seconds: tuple[list[float], list[float]] = ([], [])
    for number in range(rounds + 1):
        for function, times in zip((first, second), seconds, strict=True):
            started = time.perf_counter()
            function()
            if number:
                times.append(time.perf_counter() - started)
    ratio = statistics.median(one / other for one, other in zip(*seconds, strict=True))
    return ratio, statistics.median(seconds[0]), statistics.median(seconds[1])


def describe_device(device: torch.device) -> str:
    """Name the GPU, or state the number of CPU threads."""
    return torch.cuda.get_device_name() if device.type == "cuda" else f"CPU, {torch.get_num_threads()} threads"
