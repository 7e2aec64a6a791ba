"""What the jobs give back: small records that tell people and flows what happened."""

from dataclasses import dataclass
from pathlib import Path

from mining.engine.timing import Timing


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
