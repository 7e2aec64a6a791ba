"""What the benches share: how things are compared, and what a measured value is."""

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
    """One measured value. goal: what it should stay at or below, or reach if `higher_is_better`."""

    value: float
    goal: float
    unit: str
    detail: str
    higher_is_better: bool = False

    @property
    def is_missed(self) -> bool:
        return self.value < self.goal if self.higher_is_better else self.value > self.goal


def in_turns(first: Callable[[], Any], second: Callable[[], Any], rounds: int = ROUNDS) -> tuple[float, float, float]:
    """Median of the ratio first / second, and the median seconds of each; both run once before it counts."""
    taken: tuple[list[float], list[float]] = ([], [])
    for number in range(rounds + 1):
        for function, times in zip((first, second), taken, strict=True):
            started = time.perf_counter()
            function()
            if number:
                times.append(time.perf_counter() - started)
    ratio = statistics.median(one / other for one, other in zip(*taken, strict=True))
    return ratio, statistics.median(taken[0]), statistics.median(taken[1])


def device_in_words(device: torch.device) -> str:
    return torch.cuda.get_device_name() if device.type == "cuda" else f"CPU, {torch.get_num_threads()} threads"
