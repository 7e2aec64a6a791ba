"""Where the time of mining went."""

from dataclasses import dataclass, replace
from typing import Literal, Self

Phase = Literal["decode", "resize", "copy", "network", "maps", "regions", "write"]


PLACES: dict[Phase, str] = {
    "decode": "threads", "resize": "threads", "copy": "device", "network": "device", "maps": "device",
    "regions": "threads", "write": "process",
}  # fmt: skip


FLOOR: Phase = "network"


@dataclass(frozen=True)
class Timing:
    """What mining some images took (see mining.engine.profiling).

    seconds: all of it. stages: seconds by Phase. waiting: what is left, of the device's time, or of all where `turns`.
    devices: names. threads: the most there were. batch_size: images a
    pass at scale 1, the fewest there were. turns: threads and network took turns.
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
        """With so many seconds more for writing."""
        stages = {**self.stages, "write": self.stages["write"] + seconds}
        return replace(self, seconds=self.seconds + seconds, stages=stages)

    def plus(self, other: Self) -> Self:
        """Of the images of both."""
        stages = {stage: seconds + other.stages[stage] for stage, seconds in self.stages.items()}
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
