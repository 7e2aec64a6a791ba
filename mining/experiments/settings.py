"""Settings of an experiment: the recipe of `boxmine experiment`."""

from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import Field, ValidationError, model_validator

from mining.config import (
    MAX_SCALES,
    CorpusOverrides,
    CorpusSettings,
    MineSection,
    Scale,
    Seed,
    Settings,
    TrainSection,
    format_validation_errors,
)
from mining.errors import did_you_mean
from mining.storage.names import FolderName

Changes = dict[str, Any]
Pyramid = Annotated[tuple[Scale, ...], Field(min_length=1, max_length=MAX_SCALES)]


class ExperimentCorpus(CorpusSettings):
    """Images to train on, and images to mine and score."""

    test: CorpusOverrides = Field(
        default_factory=CorpusOverrides, description="Images to mine and score, if they are not those of the training."
    )
    truth: Path = Field(description="Ground truth boxes of the mined images.")

    def train_corpus(self) -> CorpusSettings:
        """Return the corpus to train on."""
        return CorpusOverrides().applied_to(self)

    def test_corpus(self) -> CorpusSettings:
        """Return the corpus to mine and score."""
        return self.test.applied_to(self)


class Variant(Settings):
    """A method: settings that differ from those that the recipe gives for all."""

    train: Changes = Field(default_factory=dict, description="Options of `boxmine train`.")
    mine: Changes = Field(default_factory=dict, description="Options of `boxmine mine`.")


class ExperimentSettings(Settings):
    """Variants of training and mining, measured on the same images with the same seeds."""

    out: Path = Field(description="Folder of the models, the runs and the tables.")
    corpora: dict[FolderName, ExperimentCorpus] = Field(description="Images by name.", min_length=1)
    variants: dict[FolderName, Variant] = Field(description="Methods by name.", min_length=1)
    baseline: str | None = Field(default=None, description="Variant that the others are compared with.")
    seeds: tuple[Seed, ...] = Field(default=(0, 1, 2), description="Seeds of the trainings, one per training.")
    pyramids: tuple[Pyramid, ...] = Field(
        default=((1.0,), (1.0, 1.5, 2.0)), description="Scales to mine at; later pyramids are compared with the first."
    )
    train: Changes = Field(default_factory=dict, description="Options of `boxmine train`, for all variants.")
    mine: Changes = Field(default_factory=dict, description="Options of `boxmine mine`, for all variants.")

    @model_validator(mode="after")
    def _check_variants(self) -> Self:
        if self.baseline is not None and self.baseline not in self.variants:
            raise ValueError(f"unknown baseline {self.baseline!r}: {did_you_mean(self.baseline, list(self.variants))}")
        changes: list[ExperimentSettings | Variant] = [self, *self.variants.values()]
        if any("seed" in change.train for change in changes):
            raise ValueError("set the seeds of the trainings by `seeds`, not by `train.seed`")
        if any("scales" in change.mine for change in changes):
            raise ValueError("set the scales to mine at by `pyramids`, not by `mine.scales`")
        for name in self.variants:
            try:
                self.train_options(name, 0)
                self.mine_options(name, (1.0,))
            except ValidationError as error:
                kind = TrainSection if error.title == TrainSection.__name__ else MineSection
                raise ValueError(f"variant {name!r}: {format_validation_errors(kind, error)}") from None
        return self

    def train_options(self, variant: str, seed: int) -> TrainSection:
        """Return the training options of a variant."""
        return TrainSection(**_merge(self.train, self.variants[variant].train), seed=seed)

    def mine_options(self, variant: str, scales: tuple[float, ...]) -> MineSection:
        """Return the mining options of a variant at these scales."""
        return MineSection(**_merge(self.mine, self.variants[variant].mine), scales=scales)


def _merge(common: Changes, own: Changes) -> Changes:
    """The common settings updated by a variant's own; the localizer's options are updated one by one."""
    merged = common | own
    options = [settings["options"] for settings in (common, own) if "options" in settings]
    if options and all(isinstance(one, dict) for one in options):
        merged["options"] = {name: value for one in options for name, value in one.items()}
    return merged
