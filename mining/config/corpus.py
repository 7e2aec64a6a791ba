"""Settings of a corpus: which images, and what is known of them."""

from pathlib import Path
from typing import Annotated

from pydantic import Field, field_validator

from mining.config.base import Settings, Share, resolve_path
from mining.config.recipes import MayBePath

NO_LABELS = Path("none")  # the word for it, wherever a listing could be given


LabelsPath = Annotated[Path, MayBePath(words=(str(NO_LABELS),))]


class CorpusSettings(Settings):
    """Which images, and what is known of them."""

    images: Path = Field(description="Folder that holds the images, at any depth.")
    labels: LabelsPath | None = Field(
        default=None,
        description="CSV (file_name,labels), COCO JSON, VOC XML or CUB folder; 'none' ignores class folders.",
    )
    split: str | None = Field(
        default=None, description="Take only the rows of this split, where the listing has splits."
    )

    @field_validator("images", "labels")
    @classmethod
    def _resolve_paths(cls, path: Path | None) -> Path | None:
        return path if path is None or path == NO_LABELS else resolve_path(path)


class CorpusOverrides(Settings):
    """Another corpus, by what is told of it that differs; null where it has none of what the first one has."""

    images: Path | None = Field(default=None, description="Folder that holds the images.")
    labels: LabelsPath | None = Field(default=None, description="Their listing, as for the corpus.")
    split: str | None = Field(default=None, description="Take only the rows of this split.")

    def applied_to(self, corpus: CorpusSettings) -> CorpusSettings:
        """The corpus with what is told here."""
        told = {name: self if name in self.model_fields_set else corpus for name in CorpusSettings.model_fields}
        return CorpusSettings(**{name: getattr(teller, name) for name, teller in told.items()})


class ListedCorpus(CorpusSettings):
    """A corpus whose listed images must be there, most of them."""

    min_present: Share = Field(
        default=0.5,
        description="Refuse a listing of which a smaller share of the images is there: mostly --images is the wrong "
        "folder then. 0 takes those that are there.",
    )
