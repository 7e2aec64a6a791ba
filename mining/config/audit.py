"""Settings of an audit: which boxes and images a person is asked to judge."""

from pathlib import Path
from typing import Annotated, Self

from pydantic import Field, model_validator

from mining.config.base import Settings

VERDICTS = 200
IMAGES = 50


class AuditPlanSettings(Settings):
    """What `boxmine audit plan` draws."""

    run: Path = Field(description="Run directory.")
    out: Path | None = Field(
        default=None, description="CSV file to write, one row per box or image; the column verdict is filled in."
    )
    verdicts: Annotated[int, Field(ge=1, le=10_000_000)] | None = Field(
        default=None,
        description=f"Number of boxes to draw at random; by default {VERDICTS}, or what --precision-within needs.",
    )
    precision_within: Annotated[float, Field(gt=0, lt=0.5)] | None = Field(
        default=None,
        description="Draw as many boxes as an interval of the precision of this half width needs (95 %), e.g. 0.03.",
    )
    suspicious: bool = Field(
        default=False,
        description="Also list as many of the boxes that are least probably correct: by the calibration if the run has "
        "one, else by the score. They are no random draw, and no estimate uses them.",
    )
    recall: bool = Field(
        default=False,
        description="Draw images to look at whole, those with many boxes more often, for the number of objects and the "
        "share of them that was found. Alone, no single boxes are drawn.",
    )
    images: Annotated[int, Field(ge=1, le=10_000_000)] | None = Field(
        default=None, description=f"Number of images to look at whole; with `recall` by default {IMAGES}."
    )
    pictures: Path | None = Field(
        default=None, description="Folder for a picture of each row, and a page with all of them; new or empty."
    )
    seed: Annotated[int, Field(ge=0)] | None = Field(
        default=None, description="Random seed; by default another draw each time."
    )

    @property
    def draws_boxes(self) -> bool:
        """Whether single boxes are drawn."""
        return not self.recall or bool(self.verdicts or self.precision_within or self.suspicious)

    @property
    def images_wanted(self) -> int:
        """How many images are drawn."""
        return (self.images or IMAGES) if self.recall else 0

    @model_validator(mode="after")
    def _check_one_size(self) -> Self:
        if self.verdicts is not None and self.precision_within is not None:
            raise ValueError("give `verdicts` or `precision_within`, not both")
        if self.images is not None and not self.recall:
            raise ValueError("`images` is the number of images to look at whole: give `recall` too")
        return self
