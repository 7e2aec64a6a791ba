"""What an experiment's recipe says."""

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
    """Photos to train on, and what of them or of others is mined and scored."""

    test: CorpusOverrides = Field(
        default_factory=CorpusOverrides, description="What is mined and scored, where that is not what is trained on."
    )
    truth: Path = Field(description="Boxes of what is mined, to score against.")

    def train_corpus(self) -> CorpusSettings:
        """What is trained on."""
        return CorpusOverrides().applied_to(self)

    def test_corpus(self) -> CorpusSettings:
        """What is mined and scored."""
        return self.test.applied_to(self)


class Variant(Settings):
    """A method: what is set otherwise than the recipe sets it for all."""

    train: Changes = Field(default_factory=dict, description="Options of `boxmine train`.")
    mine: Changes = Field(default_factory=dict, description="Options of `boxmine mine`.")


class ExperimentSettings(Settings):
    """Variants of training and mining, measured on the same photos with the same seeds."""

    out: Path = Field(description="Folder of the models, the runs and the tables.")
    corpora: dict[FolderName, ExperimentCorpus] = Field(description="Photos by name.", min_length=1)
    variants: dict[FolderName, Variant] = Field(description="Methods by name.", min_length=1)
    baseline: str | None = Field(default=None, description="Variant that the others are compared with.")
    seeds: tuple[Seed, ...] = Field(default=(0, 1, 2), description="One training each.")
    pyramids: tuple[Pyramid, ...] = Field(
        default=((1.0,), (1.0, 1.5, 2.0)), description="Scales to mine at; the further are compared with the first."
    )
    train: Changes = Field(default_factory=dict, description="Options of `boxmine train`, for all variants.")
    mine: Changes = Field(default_factory=dict, description="Options of `boxmine mine`, for all variants.")

    @model_validator(mode="after")
    def _check_variants(self) -> Self:
        if self.baseline is not None and self.baseline not in self.variants:
            raise ValueError(f"unknown baseline {self.baseline!r}: {did_you_mean(self.baseline, list(self.variants))}")
        changes: list[ExperimentSettings | Variant] = [self, *self.variants.values()]
        if any("seed" in one.train for one in changes):
            raise ValueError("a training's seed is one of `seeds`, not a setting of its own")
        if any("scales" in one.mine for one in changes):
            raise ValueError("the scales to mine at are one of `pyramids`, not a setting of their own")
        for name in self.variants:
            try:
                self.train_options(name, 0)
                self.mine_options(name, (1.0,))
            except ValidationError as error:
                kind = TrainSection if error.title == TrainSection.__name__ else MineSection
                raise ValueError(f"variant {name!r}: {format_validation_errors(kind, error)}") from None
        return self

    def train_options(self, variant: str, seed: int) -> TrainSection:
        """How the variant is trained."""
        return TrainSection(**_changed(self.train, self.variants[variant].train), seed=seed)

    def mine_options(self, variant: str, scales: tuple[float, ...]) -> MineSection:
        """How the variant is mined at these scales."""
        return MineSection(**_changed(self.mine, self.variants[variant].mine), scales=scales)


def _changed(common: Changes, own: Changes) -> Changes:
    """A variant's settings, and where it says nothing the common ones; of the localizer's options each by itself."""
    changed = common | own
    every = [settings["options"] for settings in (common, own) if "options" in settings]
    if every and all(isinstance(options, dict) for options in every):
        changed["options"] = {name: value for options in every for name, value in options.items()}
    return changed
