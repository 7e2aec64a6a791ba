"""Settings of the export of a detector as a file that other runtimes read."""

import re
from pathlib import Path
from typing import Annotated

from pydantic import Field, field_validator

from mining.config.base import Settings, Share

_SIZE = re.compile(r"\d{1,5}x\d{1,5}")


class ModelExportSettings(Settings):
    """Everything `boxmine export-model` needs."""

    model: Path = Field(description="Model folder of a detector, or that of a run that was mined with one.")
    out: Path = Field(description="File to write, an .onnx file; an existing one is replaced.")
    size: str | None = Field(
        default=None,
        description="Height and width of all images in px, e.g. 480x640, for runtimes that need a fixed input; by "
        "default the file takes images of any size.",
    )
    min_score: Share = Field(default=0.05, description="Boxes below this score are left out.")
    merge_iou: Share = Field(
        default=0.5, description="Of two boxes of a class that overlap by more than this IoU, the better one is kept."
    )
    max_boxes: Annotated[int, Field(ge=1, le=1000)] = Field(default=100, description="Greatest number of boxes.")

    @field_validator("out")
    @classmethod
    def _check_suffix(cls, out: Path) -> Path:
        if out.suffix != ".onnx":
            raise ValueError(f"{out} must end with .onnx")
        return out

    @field_validator("size")
    @classmethod
    def _check_size(cls, size: str | None) -> str | None:
        if size is not None and not (_SIZE.fullmatch(size) and all(16 <= side <= 16_384 for side in _sides(size))):
            raise ValueError(f"{size!r:.40} must be HEIGHTxWIDTH, each from 16 to 16384 px, e.g. 480x640")
        return size

    @property
    def image_size(self) -> tuple[int, int] | None:
        """Height and width of all images in px; None for images of any size."""
        if self.size is None:
            return None
        height, width = _sides(self.size)
        return height, width


def _sides(size: str) -> list[int]:
    return [int(side) for side in size.split("x")]
