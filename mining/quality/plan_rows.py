"""Rows of a plan that can be shown as pictures."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from mining.quality.judgements import Box
from mining.runs.run import Run

FIRST_LINE = 2  # of a CSV file, below its header


@dataclass(frozen=True)
class ShownBox:
    """A box on a picture: its id, class and place, xywh in px."""

    annotation_id: int
    category: str
    xywh: Box


@dataclass(frozen=True)
class PlanPicture:
    """What the picture of a row shows.

    Attributes:
        line: The row's line in the plan's CSV file.
        file_name: The image.
        boxes: One box, or all boxes of an image to be looked at whole.
        is_whole: Whether the whole image is shown, rather than the box with what surrounds it.
    """

    line: int
    file_name: str
    boxes: tuple[ShownBox, ...]
    is_whole: bool

    @property
    def name(self) -> str:
        """File name of the picture."""
        return f"{self.line:05d}.jpg"


DrawPictures = Callable[[Run, Path, Sequence[PlanPicture]], set[int]]
"""Draws the pictures of a plan into a new folder and returns the lines of those that could be drawn."""
