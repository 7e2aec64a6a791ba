"""A record of where the time of mining went."""

from dataclasses import dataclass, replace
from typing import Literal, Self

Phase = Literal["decode", "resize", "copy", "network", "maps", "refine", "regions", "write"]


PLACES: dict[Phase, str] = {
    "decode": "threads", "resize": "threads", "copy": "device", "network": "device", "maps": "device",
    "refine": "device", "regions": "threads", "write": "process",
}  # fmt: skip


FLOOR: Phase = "network"


@dataclass(frozen=True)
class Timing:
    """The time of mining some images (see mining.engine.profiling).

    Attributes:
        images: Number of images.
        seconds: Total time.
        stages: Seconds by phase.
        waiting: The rest of the device's time, or of the total if `turns`.
        devices: Names of the devices.
        threads: Largest number of worker threads.
        turns: Threads and network alternated.
        batch_size: Smallest number of images per pass at scale 1.
    """

    images: int
    seconds: float
    stages: dict[str, float]
    waiting: float
    devices: list[str]
    threads: int
    turns: bool
    batch_size: int

    def with_writing(self, seconds: float) -> Self:
        """Add the time for writing."""
        stages = {**self.stages, "write": self.stages["write"] + seconds}
        return replace(self, seconds=self.seconds + seconds, stages=stages)

    def plus(self, other: Self) -> Self:
        """Add the times of other images."""
        # a part of an earlier version lacks the phases that it did not have
        stages: dict[str, float] = {
            phase: self.stages.get(phase, 0.0) + other.stages.get(phase, 0.0) for phase in PLACES
        }
        return type(self)(
            self.images + other.images,
            self.seconds + other.seconds,
            stages,
            self.waiting + other.waiting,
            sorted({*self.devices, *other.devices}),
            max(self.threads, other.threads),
            self.turns and other.turns,
            min(self.batch_size, other.batch_size),
        )
