"""Settings of flows that use trained models or mined runs: score, compare, run, retrain, and recipes in files."""

import json
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from mining.config.base import S, Settings, Share, parse
from mining.config.corpus import CorpusOverrides, CorpusSettings
from mining.config.mine import MineSection, MineSettings, ModelReference
from mining.config.recipes import read_recipe
from mining.config.train import TrainSection, TrainSettings


class ScoreSettings(Settings):
    """Everything `boxmine score` needs."""

    run: Path = Field(description="Run directory.")
    truth: Path = Field(description="Ground truth: COCO JSON with boxes, folder of VOC XML, or CUB folder.")
    maps: bool = Field(
        default=False,
        description="Compute the maps again (as slow as mining), for MaxBoxAcc, MaxBoxAccV2 and Loc(delta).",
    )
    engine: Literal["boxmine", "pycocotools"] = Field(
        default="boxmine",
        description="What computes COCO's figures; both give the same numbers, pycocotools far more slowly.",
    )
    classes_from: Path | None = Field(
        default=None,
        description="Take the classes of images from another classifier, for localization and classification errors: "
        "a run directory of that model, or a CSV (file_name,labels) with the most probable label first.",
    )


class CompareSettings(Settings):
    """Everything `boxmine compare` needs."""

    first: Path = Field(description="Run directory to compare with.")
    second: Path = Field(description="Run directory that is compared with it.")
    truth: Path | None = Field(
        default=None, description="Ground truth, as for `score`; by default the one that a run was scored against."
    )
    out: Path | None = Field(
        default=None, description="Page to write; by default report/against-FIRST.html of the second run."
    )


class FuseSettings(Settings):
    """Everything `boxmine fuse` needs."""

    runs: Annotated[tuple[Path, ...], Field(min_length=2)] = Field(
        description="Two or more finished runs of the same images."
    )
    out: Path = Field(description="The new run directory.")
    min_runs: Annotated[int, Field(ge=1)] = Field(
        default=1, description="Fewest runs that a box must have been found by; others are left out."
    )

    @model_validator(mode="after")
    def _check_out_and_min_runs(self) -> Self:
        if self.out.resolve() in {path.resolve() for path in self.runs}:
            raise ValueError(f"`out` is {self.out}, one of the runs, which are not changed: give a new folder")
        if self.min_runs > len(self.runs):
            raise ValueError(f"`min_runs` is {self.min_runs}, but there are {len(self.runs)} runs")
        return self

    @field_validator("runs")
    @classmethod
    def _refuse_twice_the_same(cls, runs: tuple[Path, ...]) -> tuple[Path, ...]:
        if len({path.resolve() for path in runs}) < len(runs):
            raise ValueError("a run is named twice: the boxes of different runs are combined")
        return runs


class RunSettings(Settings):
    """A recipe: train (or take a model), mine, score, report."""

    out: Path = Field(description="Run directory.")
    corpus: CorpusSettings
    test: CorpusOverrides = Field(
        default_factory=CorpusOverrides,
        description="What to mine and score, if not the training images: `split: test`, or other images.",
    )
    model: ModelReference | None = Field(
        default=None, description="Instead of training: a model folder or pretrained:BACKBONE."
    )
    train: TrainSection = Field(default_factory=TrainSection)
    mine: MineSection = Field(default_factory=MineSection)
    min_present: Share = Field(default=0.5, description="Minimum share of the listed images that must exist.")
    truth: Path | None = Field(
        default=None,
        description="Ground truth to score against: COCO JSON with boxes, folder of VOC XML, or CUB folder.",
    )
    classes_from: Path | None = Field(
        default=None, description="Another classifier's classes for localization errors, as for `score`."
    )
    boxes: Path | None = Field(
        default=None,
        description="True boxes of a few of the training images, which the localizer learns from, as for `train`.",
    )

    @model_validator(mode="after")
    def _check_model_or_train(self) -> Self:
        if self.model is not None and "train" in self.model_fields_set:
            raise ValueError("a recipe has either `model` or `train`, not both")
        if self.model is not None and self.boxes is not None:
            raise ValueError("`boxes` are for training, which a recipe with `model` does not have; omit `boxes`")
        return self

    def train_settings(self) -> TrainSettings:
        """Return the settings of the recipe's training, as for `boxmine train`."""
        checked = {**dict(self.corpus), "min_present": self.min_present}
        return TrainSettings(**checked, **dict(self.train), out=self.out / "model", boxes=self.boxes)

    def mine_settings(self) -> MineSettings:
        """Return the settings of the recipe's mining, as for `boxmine mine`."""
        model = self.model or str(self.out / "model")
        corpus = self.test.applied_to(self.corpus)
        checked = {**dict(corpus), "min_present": self.min_present}
        return MineSettings(**checked, **dict(self.mine), model=model, out=self.out)


class RetrainSettings(Settings):
    """Train a new model for the corpus and compare it with the run in use."""

    runs: Path = Field(description="Folder for the new runs, one per retraining, each with its model.")
    current: Path | None = Field(default=None, description="Run directory in use, to compare with, if there is one.")
    corpus: CorpusSettings
    test: CorpusOverrides = Field(
        default_factory=CorpusOverrides, description="What to mine and compare, if not the training images."
    )
    train: TrainSection = Field(default_factory=TrainSection)
    mine: MineSection = Field(default_factory=MineSection)
    truth: Path | None = Field(
        default=None,
        description="Ground truth to compare against: COCO JSON with boxes, folder of VOC XML, or CUB folder.",
    )

    def run_settings(self, out: Path) -> RunSettings:
        """Return the settings of the new run."""
        return RunSettings(
            out=out, corpus=self.corpus, test=self.test, train=self.train, mine=self.mine, truth=self.truth
        )

    def comparison(self, out: Path) -> CompareSettings | None:
        """Return the settings of the comparison with the run in use; None if there is no such run yet."""
        if self.current is None or not self.current.exists():
            return None
        return CompareSettings(first=self.current, second=out, truth=self.truth)


class Recipe(Settings):
    """Settings in a file."""

    recipe: Path = Field(description="YAML file with the settings; relative paths in it count from its folder.")
    changes: dict[str, Any] = Field(
        default_factory=dict,
        description="Changes to the file, by dotted name: {'train.epochs': 5}; relative paths count from the working "
        "directory.",
    )

    def read(self, kind: type[S]) -> S:
        """Read and validate the file. Raises InputError with one sentence per error."""
        return parse(kind, read_recipe(self.recipe, {name: json.dumps(value) for name, value in self.changes.items()}))


class Attempts(Settings):
    """How often and for how long a deployed flow is tried."""

    tries: Annotated[int, Field(ge=1, le=100)] = Field(
        default=3,
        description="Tries in all after a failure of disk or device; a wrong recipe fails at once.",
    )
    wait_seconds: Annotated[float, Field(ge=0, le=86_400)] = Field(
        default=60.0, description="Pause before the second try, doubled before each further one."
    )
    hours: Annotated[float, Field(gt=0, le=8760)] | None = Field(
        default=None,
        description="Time limit of the run, after which it is stopped and can be resumed; by default none.",
    )
