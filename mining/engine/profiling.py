"""Where the time of mining goes, stage by stage, beside the floor: what the layers of the network take by themselves.

Threads decode, resize and cut; the device copies, runs the network's layers and makes maps of what they give; the
process writes. A stage's seconds are those for which its place was busy with it: what threads spend is divided by
their number. Where threads and network take turns (a CPU) all stages and the waiting add up to the whole; beside a GPU
they overlap, and what the device waits for is what it was not busy.
"""

import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.utils.hooks import RemovableHandle

from mining.backbones.base import Backbone
from mining.engine.timing import FLOOR, PLACES, Phase, Timing

Moment = float | torch.cuda.Event


class Stopwatch:
    """Adds up what stages take, in any thread and on a device.

    The layers of the backbones in `network` are timed by themselves. A CUDA device is asked by events, which do not
    make it wait; other devices are timed by when the call comes back.
    """

    def __init__(self, network: nn.Module, device: torch.device, *, threads: int, turns: bool) -> None:
        self._device, self._threads, self._turns = device, threads, turns
        self._lock = threading.Lock()
        self._seconds: defaultdict[Phase, float] = defaultdict(float)
        self._moments: list[tuple[Phase, Moment, Moment]] = []
        self._begun: list[Moment] = []
        self._network = network
        self._hooks: list[RemovableHandle] = []
        self._started = time.perf_counter()

    @contextmanager
    def during(self, phase: Phase) -> Iterator[None]:
        """Time the block, which runs in a thread or in the process."""
        began = time.perf_counter()
        try:
            yield
        finally:
            taken = time.perf_counter() - began
            with self._lock:
                self._seconds[phase] += taken

    @contextmanager
    def on_device(self, phase: Phase) -> Iterator[None]:
        """Time the block, which gives the device work."""
        began = self._moment()
        try:
            yield
        finally:
            self._moments.append((phase, began, self._moment()))

    def start(self) -> None:
        """Forget what was so far, and time the layers from now on."""
        self._stop()
        self._seconds.clear()
        self._moments.clear()
        self._begun.clear()
        for part in self._network.modules():
            if isinstance(part, Backbone):
                for stage in part.stages:
                    self._hooks.append(stage.register_forward_pre_hook(self._layers_begin))
                    self._hooks.append(stage.register_forward_hook(self._layers_end))
        self._started = time.perf_counter()

    def read(self, images: int, batch_size: int) -> Timing:
        """What was since the start; ends it."""
        self._stop()
        taken = {phase: self._seconds[phase] / self._sharing(phase) for phase in PLACES}
        for phase, began, ended in self._moments:
            taken[phase] += _between(began, ended)
        taken["maps"] -= taken[FLOOR]  # whose layers are run on the way to the maps
        seconds = time.perf_counter() - self._started
        counted = [phase for phase, place in PLACES.items() if self._turns or place == "device"]
        return Timing(
            images,
            seconds,
            {phase: max(0.0, taken[phase]) for phase in PLACES},
            max(0.0, seconds - sum(taken[phase] for phase in counted)),
            [torch.cuda.get_device_name(self._device) if self._device.type == "cuda" else self._device.type],
            self._threads,
            self._turns,
            batch_size,
        )

    def _stop(self) -> None:
        for hook in self._hooks:
            hook.remove()
        self._hooks.clear()

    def _sharing(self, phase: Phase) -> int:
        return self._threads if PLACES[phase] == "threads" else 1

    def _moment(self) -> Moment:
        if self._device.type != "cuda":
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        event.record()
        return event

    def _layers_begin(self, *_: Any) -> None:
        self._begun.append(self._moment())

    def _layers_end(self, *_: Any) -> None:
        self._moments.append((FLOOR, self._begun.pop(), self._moment()))


def _between(began: Moment, ended: Moment) -> float:
    if isinstance(began, float) or isinstance(ended, float):
        return float(ended) - float(began)  # type: ignore[arg-type]
    ended.synchronize()
    return began.elapsed_time(ended) / 1000
