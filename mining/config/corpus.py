"""Settings of a corpus: its images and their labels."""

from pathlib import Path
from typing import Annotated

from pydantic import Field, field_validator

from mining.config.base import Settings, Share, resolve_path
from mining.config.recipes import MayBePath

NO_LABELS = Path("none")  # in place of a file with labels


LabelsPath = Annotated[Path, MayBePath(words=(str(NO_LABELS),))]


class CorpusSettings(Settings):
    """The images and their labels."""

    images: Path = Field(description="Folder with the images, at any depth.")
    labels: LabelsPath | None = Field(
        default=None,
        description="CSV (file_name,labels), COCO JSON, VOC XML or CUB folder; 'none' ignores class folders.",
    )
    split: str | None = Field(default=None, description="Use only the rows of this split, if the listing has splits.")

    @field_validator("images", "labels")
    @classmethod
    def _resolve_paths(cls, path: Path | None) -> Path | None:
        return path if path is None or path == NO_LABELS else resolve_path(path)


class CorpusOverrides(Settings):
    """Another corpus, given by its differences from a first one; null removes a setting."""

    images: Path | None = Field(default=None, description="Folder with the images.")
    labels: LabelsPath | None = Field(default=None, description="Their labels, as for the corpus.")
    split: str | None = Field(default=None, description="Use only the rows of this split.")

    def applied_to(self, corpus: CorpusSettings) -> CorpusSettings:
        """Return the corpus with these differences."""
        sources = {name: self if name in self.model_fields_set else corpus for name in CorpusSettings.model_fields}
        return CorpusSettings(**{name: getattr(source, name) for name, source in sources.items()})


class ListedCorpus(CorpusSettings):
    """A corpus of which most listed images must exist."""

    min_present: Share = Field(
        default=0.5,
        description="Minimum share of the listed images that must exist; fewer usually mean that --images is the wrong "
        "folder. 0 uses those that exist.",
    )
