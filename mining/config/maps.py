"""Settings of the page that shows localizers side by side."""

from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, Field, field_validator

from mining.config.base import Settings
from mining.config.execution import check_device
from mining.config.mine import MAX_SCALES, Scale, scales_from_text, split_at_commas

MAX_PHOTOS = 200
MAX_MODELS = 32


class MapsSettings(Settings):
    """Everything `boxmine maps` needs."""

    models: Annotated[tuple[str, ...], Field(min_length=1, max_length=MAX_MODELS)] = Field(
        description="Model folders, or pretrained:BACKBONE for ImageNet's classes."
    )
    images: Annotated[tuple[Path, ...], Field(min_length=1)] = Field(description="Image files, or folders of images.")
    out: Path = Field(description="Page to write, an .html file.")
    classes: tuple[str, ...] = Field(
        default=(), description="Classes to map in every image; by default the most probable ones of each image."
    )
    max_classes: Annotated[int, Field(ge=1, le=20)] = Field(
        default=1, description="Number of most probable classes to map in each image, if none are given."
    )
    localizers: tuple[str, ...] = Field(
        default=(),
        description="Methods to draw, e.g. cam,layercam, of those that the weights of a model serve. By default all of "
        "them if one model is given, and each model's own if several are.",
    )
    max_images: Annotated[int, Field(ge=1, le=MAX_PHOTOS)] = Field(
        default=12,
        description="Maximum number of images on the page; of more, so many are shown, evenly spaced in the order "
        "given (those of a folder by name).",
    )
    scales: Annotated[tuple[Scale, ...], Field(min_length=1, max_length=MAX_SCALES)] | None = Field(
        default=None, description="Scales of all maps; by default those that `boxmine mine` has for each refinement."
    )
    device: Annotated[str, AfterValidator(check_device)] = Field(
        default="auto", description="auto (a GPU if there is one), cpu, cuda, cuda:1, mps."
    )

    @field_validator("scales", mode="before")
    @classmethod
    def _read_scales(cls, value: Any) -> Any:
        return scales_from_text(value)

    @field_validator("localizers", mode="before")
    @classmethod
    def _read_localizers(cls, value: Any) -> Any:
        texts = [value] if isinstance(value, str) else value or ()
        return tuple(dict.fromkeys(split_at_commas(texts)))

    @field_validator("classes", "models", "images", mode="before")
    @classmethod
    def _read_list(cls, value: Any) -> Any:
        return tuple(dict.fromkeys([value] if isinstance(value, str | Path) else value or ()))
