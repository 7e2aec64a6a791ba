"""Small records that describe the work of a run: what is left to mine, and what a finished run holds."""

from dataclasses import dataclass, field
from pathlib import Path

from mining.engine.timing import Timing
from mining.runs.run import Run


@dataclass(frozen=True)
class MinePlan:
    """What is left to mine.

    Attributes:
        run: The run directory, opened.
        images: Images of the corpus.
        done_images: Images of the shards that are mined.
        shards: Numbers of the shards that are left.
        finished: The run is finished, and nothing is left to do.
    """

    run: Run
    images: int
    done_images: int
    shards: list[int]
    finished: bool


@dataclass(frozen=True)
class MineSummary:
    """What a finished run holds.

    Attributes:
        run: The run directory.
        images: Images of the corpus.
        boxes: Boxes in annotations.parquet.
        classes: Classes of the model.
        states: Number of images by state (see mining.corpus.schema).
        seconds: What mining took.
        notes: Sentences about the corpus.
        reasons: Why the first quarantined images could not be used.
        timing: Where the time went; None if a version without timing mined the run.
        warnings: Sentences about boxes that mean little, or a model that does not localize, with the remedy.
    """

    run: Path
    images: int
    boxes: int
    classes: int
    states: dict[str, int]
    seconds: float
    notes: list[str]
    reasons: list[str]
    timing: Timing | None = None
    warnings: list[str] = field(default_factory=list)

    @property
    def quarantined(self) -> int:
        """Images that could not be used."""
        return self.states.get("quarantined", 0)
