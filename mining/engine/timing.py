"""A record of where the time of mining went."""

from dataclasses import dataclass, replace
from typing import Any, Literal, Self

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
        waiting: The rest of the device's time, or of the total if `adds_up`.
        devices: Names of the devices.
        threads: Largest number of worker threads.
        adds_up: Whether phases and waiting add up to the total, as on a CPU, where the threads run the network.
        batch_size: Smallest number of images per pass at scale 1.
    """

    images: int
    seconds: float
    stages: dict[str, float]
    waiting: float
    devices: list[str]
    threads: int
    adds_up: bool
    batch_size: int

    @classmethod
    def from_record(cls, record: dict[str, Any]) -> Self:
        """Read a timing as JSON has it; an earlier version had another name for `adds_up`.

        Raises:
            TypeError: It lacks a value.
        """
        renamed = {"adds_up" if name == "turns" else name: value for name, value in record.items()}
        return cls(**renamed)

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
            self.adds_up and other.adds_up,
            min(self.batch_size, other.batch_size),
        )
