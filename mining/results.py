"""What the jobs give back: small records that tell people and flows what happened."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, Self

Phase = Literal["decode", "resize", "copy", "network", "maps", "regions", "write"]
PLACES: dict[Phase, str] = {
    "decode": "threads", "resize": "threads", "copy": "device", "network": "device", "maps": "device",
    "regions": "threads", "write": "process",
}  # fmt: skip
FLOOR: Phase = "network"


@dataclass(frozen=True)
class TrainingSummary:
    """folder: of the model. epochs: trained. best_epoch: whose weights were kept (from 1).

    metric: 'accuracy' or 'mean average precision' on the held-back images, value None without any.
    unreadable: file name to reason, of the images left out. notes: sentences about the corpus.
    missing: images that are listed and not there.
    """

    folder: Path
    images: int
    validation_images: int
    classes: int
    objective: Literal["single", "multi"]
    epochs: int
    best_epoch: int
    metric: str
    value: float | None
    seconds: float
    unreadable: dict[str, str]
    notes: list[str]
    missing: int = 0


@dataclass(frozen=True)
class MinePlan:
    """What is to be mined: shards still open, images in all and done; finished: nothing is left to do."""

    run: Path
    images: int
    done_images: int
    shards: list[int]
    finished: bool


@dataclass(frozen=True)
class MineSummary:
    """What a finished run holds. states: images by state (see the corpus schema).

    notes: sentences about the corpus. reasons: of the first quarantined images.
    """

    run: Path
    images: int
    boxes: int
    classes: int
    states: dict[str, int]
    seconds: float
    notes: list[str]
    reasons: list[str]
    timing: "Timing | None" = None

    @property
    def quarantined(self) -> int:
        """Images that could not be used."""
        return self.states.get("quarantined", 0)


@dataclass(frozen=True)
class Retrained:
    """What a retraining came to. model: folder of the new model. run: what it mined.

    page: the comparison with the run in use, None where there is none. is_better: than that run; None where a person
    decides, for `reason`.
    """

    model: Path
    run: Path
    page: Path | None
    is_better: bool | None
    reason: str


@dataclass(frozen=True)
class Timing:
    """What mining some images took (see mining.timing).

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
