"""Settings of flows that use the result of training or mining: score, compare, run, retrain, and recipes in files."""

import json
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from mining.config.base import S, Settings, Share, parse
from mining.config.corpus import CorpusOverrides, CorpusSettings
from mining.config.mine import MineSection, MineSettings, ModelReference
from mining.config.recipes import read_recipe
from mining.config.train import TrainSection, TrainSettings


class ScoreSettings(Settings):
    """Everything `boxmine score` needs."""

    run: Path = Field(description="Run directory.")
    truth: Path = Field(description="COCO JSON with boxes, folder of VOC XML, or CUB folder.")
    maps: bool = Field(
        default=False, description="Draw the maps again, as long as mining took, for MaxBoxAcc and MaxBoxAccV2."
    )
    engine: Literal["boxmine", "pycocotools"] = Field(
        default="boxmine",
        description="What computes COCO's figures; both give the same numbers, pycocotools far more slowly.",
    )


class CompareSettings(Settings):
    """Everything `boxmine compare` needs."""

    first: Path = Field(description="Run directory to compare with.")
    second: Path = Field(description="Run directory that is compared with it.")
    truth: Path | None = Field(
        default=None, description="True boxes, as for `score`; by default those that a run was scored against."
    )
    out: Path | None = Field(
        default=None, description="Page to write; by default report/against-FIRST.html of the second run."
    )


class RunSettings(Settings):
    """A recipe: train (or take a model), mine, score, report."""

    out: Path = Field(description="Run directory.")
    corpus: CorpusSettings
    test: CorpusOverrides = Field(
        default_factory=CorpusOverrides,
        description="What to mine and score, where that is not what was trained on: `split: test`, or other images.",
    )
    model: ModelReference | None = Field(
        default=None, description="Instead of training: a model folder or pretrained:BACKBONE."
    )
    train: TrainSection = Field(default_factory=TrainSection)
    mine: MineSection = Field(default_factory=MineSection)
    min_present: Share = Field(
        default=0.5, description="Refuse a listing of which a smaller share of the images is there."
    )
    truth: Path | None = Field(
        default=None, description="To score against: COCO JSON with boxes, folder of VOC XML, or CUB folder."
    )

    @model_validator(mode="after")
    def _check_model_or_train(self) -> Self:
        if self.model is not None and "train" in self.model_fields_set:
            raise ValueError("a recipe has either `model` or `train`, not both")
        return self

    def train_settings(self) -> TrainSettings:
        """The recipe's training part, as `boxmine train` would get it."""
        checked = {**dict(self.corpus), "min_present": self.min_present}
        return TrainSettings(**checked, **dict(self.train), out=self.out / "model")

    def mine_settings(self) -> MineSettings:
        """The recipe's mining part, as `boxmine mine` would get it."""
        model = self.model or str(self.out / "model")
        corpus = self.test.applied_to(self.corpus)
        checked = {**dict(corpus), "min_present": self.min_present}
        return MineSettings(**checked, **dict(self.mine), model=model, out=self.out)


class RetrainSettings(Settings):
    """A new model for the corpus, held against the run that is in use."""

    runs: Path = Field(description="Folder for the new runs, one a retraining; each has its model beside its boxes.")
    current: Path | None = Field(
        default=None, description="Run directory in use, to compare with; there may be none yet."
    )
    corpus: CorpusSettings
    test: CorpusOverrides = Field(
        default_factory=CorpusOverrides, description="What to mine and compare, where that is not what was trained on."
    )
    train: TrainSection = Field(default_factory=TrainSection)
    mine: MineSection = Field(default_factory=MineSection)
    truth: Path | None = Field(
        default=None,
        description="Boxes that are known, to compare against: COCO JSON, folder of VOC XML, or CUB folder.",
    )

    def run_settings(self, out: Path) -> RunSettings:
        """How the new run is made."""
        return RunSettings(
            out=out, corpus=self.corpus, test=self.test, train=self.train, mine=self.mine, truth=self.truth
        )

    def comparison(self, out: Path) -> CompareSettings | None:
        """How the new run is compared with the one in use; None where there is none yet."""
        if self.current is None or not self.current.exists():
            return None
        return CompareSettings(first=self.current, second=out, truth=self.truth)


class Recipe(Settings):
    """Settings that stand in a file."""

    recipe: Path = Field(description="YAML file with the settings; relative paths in it count from its folder.")
    changes: dict[str, Any] = Field(
        default_factory=dict,
        description="On top of the file, by dotted name: {'train.epochs': 5}; relative paths count from the working "
        "directory.",
    )

    def read(self, kind: type[S]) -> S:
        """The settings. Raises InputError with one sentence a fault."""
        return parse(kind, read_recipe(self.recipe, {name: json.dumps(value) for name, value in self.changes.items()}))


class Attempts(Settings):
    """How often and for how long a deployed flow tries."""

    tries: Annotated[int, Field(ge=1, le=100)] = Field(
        default=3,
        description="Tries in all, where the disk or the device failed; what is wrong in a recipe fails once.",
    )
    wait_seconds: Annotated[float, Field(ge=0, le=86_400)] = Field(
        default=60.0, description="Before the second try; twice as long before each further one."
    )
    hours: Annotated[float, Field(gt=0, le=8760)] | None = Field(
        default=None, description="After so many the run is stopped; what is finished is kept. By default it is not."
    )
