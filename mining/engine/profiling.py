"""Measure the time of each phase of mining, and of the network's layers alone, which are the floor.

Threads decode, resize and extract regions; the device copies batches, runs the network and computes maps; the process
writes. The seconds of a phase are those during which its place was busy with it: those of threads are divided by their
number. On a CPU, where the threads run the network, all phases and the waiting add up to the total; with a GPU they
overlap, and waiting is the time during which the device was idle.
"""

import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch
from torch import nn
from torch.utils.hooks import RemovableHandle

from mining.backbones.base import Backbone
from mining.engine.timing import FLOOR, PLACES, Phase, Timing

Moment = float | torch.cuda.Event


class Stopwatch:
    """Adds up the time of phases, in threads and on a device.

    The layers of the backbones in `network` are timed separately. A CUDA device is timed by events, which do not
    synchronise it; other devices by the duration of the call.

    Args:
        network: The network.
        device: Its device.
        threads: Number of worker threads; if the device is the CPU, they are the device.

    Attributes:
        device_name: What the timing calls the device.
    """

    def __init__(self, network: nn.Module, device: torch.device, *, threads: int) -> None:
        self._device, self._threads, self._on_cpu = device, threads, device.type == "cpu"
        self.device_name = device.type
        self._lock = threading.Lock()
        self._seconds: defaultdict[Phase, float] = defaultdict(float)
        self._moments: list[tuple[Phase, Moment, Moment]] = []
        self._local = threading.local()  # when the layers that a thread is in began
        self._network = network
        self._hooks: list[RemovableHandle] = []
        self._started = time.perf_counter()

    @contextmanager
    def during(self, phase: Phase) -> Iterator[None]:
        """Time a block that runs in a thread or in the process."""
        began = time.perf_counter()
        try:
            yield
        finally:
            taken = time.perf_counter() - began
            with self._lock:
                self._seconds[phase] += taken

    @contextmanager
    def on_device(self, phase: Phase) -> Iterator[None]:
        """Time a block that queues work for the device."""
        began = self._moment()
        try:
            yield
        finally:
            self._moments.append((phase, began, self._moment()))

    def pass_of_runtime(self) -> AbstractContextManager[None]:
        """Time a pass through the network by a runtime other than torch."""
        return self.on_device(FLOOR)

    def start(self) -> None:
        """Reset all times, and start timing the layers."""
        self._stop()
        self._seconds.clear()
        self._moments.clear()
        for part in self._network.modules():
            if isinstance(part, Backbone):
                for stage in part.stages:
                    self._hooks.append(stage.register_forward_pre_hook(self._layers_begin))
                    self._hooks.append(stage.register_forward_hook(self._layers_end))
        self._started = time.perf_counter()

    def read(self, images: int, batch_size: int) -> Timing:
        """Stop, and return the times since the start."""
        self._stop()
        taken = {phase: self._seconds[phase] / self._sharing(phase) for phase in PLACES}
        for phase, began, ended in self._moments:
            taken[phase] += _between(began, ended) / self._sharing(phase)
        taken["maps"] -= taken[FLOOR]  # the layers run inside this phase
        seconds = time.perf_counter() - self._started
        counted = [phase for phase, place in PLACES.items() if self._on_cpu or place == "device"]
        return Timing(
            images,
            seconds,
            {phase: max(0.0, taken[phase]) for phase in PLACES},
            max(0.0, seconds - sum(taken[phase] for phase in counted)),
            [self.device_name],
            self._threads,
            self._on_cpu,
            batch_size,
        )

    def _stop(self) -> None:
        for hook in self._hooks:
            hook.remove()
        self._hooks.clear()

    def _sharing(self, phase: Phase) -> int:
        return self._threads if PLACES[phase] == "threads" or (self._on_cpu and PLACES[phase] == "device") else 1

    def _moment(self) -> Moment:
        if self._device.type != "cuda":
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        event.record()
        return event

    def _layers_begin(self, *_: Any) -> None:
        if not self._is_capturing():
            self._local.began = self._moment()

    def _layers_end(self, *_: Any) -> None:
        if not self._is_capturing():
            self._moments.append((FLOOR, self._local.began, self._moment()))

    def _is_capturing(self) -> bool:
        """Whether the layers run to be captured as a CUDA graph, whose replays are timed instead."""
        return self._device.type == "cuda" and torch.cuda.is_current_stream_capturing()


def _between(began: Moment, ended: Moment) -> float:
    if isinstance(began, float) or isinstance(ended, float):
        return float(ended) - float(began)  # type: ignore[arg-type]
    ended.synchronize()
    return began.elapsed_time(ended) / 1000
