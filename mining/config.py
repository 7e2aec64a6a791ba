"""What a person may set, validated; the same classes make the form on Prefect's page.

Every default here is meant to be the best known trade for somebody who sets nothing.
"""

import json
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar, get_args

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator
from pydantic.fields import FieldInfo

from mining.errors import InputError, did_you_mean
from mining.integrity import digest_fits
from mining.recipes import MayBePath, anchored, read_recipe
from mining.setting_checks import refuse_impossible, refuse_reversed, shown
from mining.untrusted import read_json

S = TypeVar("S", bound="Settings")
Objective = Literal["single", "multi"]
Normalisation = Literal["max", "minmax"]
MapThreshold = Literal["otsu", "entropy", "stability"]  # told by each map, see mining.scoring.thresholds
Options = dict[str, Any]
_DEVICE = re.compile(r"auto|cpu|mps|cuda(:\d{1,3})?")
NO_LABELS = Path("none")  # the word for it, wherever a listing could be given
Share = Annotated[float, Field(ge=0.0, le=1.0)]
LabelsPath = Annotated[Path, MayBePath(words=(str(NO_LABELS),))]
ModelReference = Annotated[str, MayBePath(prefix="pretrained:")]
WEIGHTS_MARK = MayBePath(words=("imagenet", "none"))
WeightsReference = Annotated[str, WEIGHTS_MARK]
Seed = Annotated[int, Field(ge=0, lt=2**32)]
Scale = Annotated[float, Field(ge=0.1, le=8)]
Workers = Annotated[int, Field(ge=1, le=256)]
MAX_SCALES = 16
CutLevel = Annotated[float, Field(gt=0, lt=1)]


def _known_device(device: str) -> str:
    if not _DEVICE.fullmatch(device):
        raise ValueError("give auto, cpu, mps, cuda, or cuda:1 for the second GPU")
    return device


class Settings(BaseModel):
    """Base of all settings: unknown names are refused, values do not change afterwards."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _paths_count_from_the_recipe(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        marks = {name: path_mark(field) for name, field in cls.model_fields.items()}
        return {name: anchored(value, mark) if (mark := marks.get(name)) else value for name, value in values.items()}

    @field_validator("*")
    @classmethod
    def _is_possible(cls, value: Any) -> Any:
        refuse_impossible(value)
        return value


def path_mark(field: FieldInfo) -> MayBePath | None:
    """How to tell whether a text given for the field is a path; None where it never is one."""
    for part in (field.annotation, *get_args(field.annotation), *field.metadata):
        marks = [part, *get_args(part)]
        if found := next((mark for mark in marks if isinstance(mark, MayBePath)), None):
            return found
    return MayBePath() if Path in (field.annotation, *get_args(field.annotation)) else None


def absolute(path: Path) -> Path:
    """The path without links, so that the same command resumes from any working directory."""
    return Path(os.path.realpath(path))


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
    def _the_same_wherever_it_is_carried_on(cls, path: Path | None) -> Path | None:
        return path if path is None or path == NO_LABELS else absolute(path)


class CorpusChanges(Settings):
    """Another corpus, by what is told of it that differs; null where it has none of what the first one has."""

    images: Path | None = Field(default=None, description="Folder that holds the images.")
    labels: LabelsPath | None = Field(default=None, description="Their listing, as for the corpus.")
    split: str | None = Field(default=None, description="Take only the rows of this split.")

    def applied_to(self, corpus: CorpusSettings) -> CorpusSettings:
        """The corpus with what is told here."""
        told = {name: self if name in self.model_fields_set else corpus for name in CorpusSettings.model_fields}
        return CorpusSettings(**{name: getattr(teller, name) for name, teller in told.items()})


class TrainOptions(Settings):
    """How a localizer is trained from image-level labels."""

    localizer: str = Field(default="cam", description="Method: see `boxmine localizers`.")
    options: Options = Field(
        default_factory=dict, description="The localizer's own options, e.g. --options.background none."
    )
    backbone: str = Field(default="efficientnet_lite0", description="Network: see `boxmine backbones`.")
    weights: WeightsReference = Field(
        default="imagenet",
        description="'imagenet' (pretrained), 'none' (from scratch), or a file of the backbone's weights.",
    )
    freeze: bool = Field(
        default=True, description="Train the head only; quick on small machines and good on small sets."
    )
    epochs: Annotated[int, Field(ge=1, le=100_000)] = Field(default=12, description="Passes over the training images.")
    seed: Seed = Field(default=0, description="Seed of everything random.")
    batch_size: Annotated[int, Field(ge=1, le=65_536)] = Field(
        default=16, description="Images per step, of all devices together."
    )
    learning_rate: Annotated[float, Field(gt=0, le=100)] | None = Field(
        default=None,
        description="Of what is new; a backbone that is trained too gets a tenth. By default the localizer's: 0.003 "
        "for a head alone, less for those with new layers in front of it.",
    )
    backbone_rate: Annotated[float, Field(gt=0, le=100)] | None = Field(
        default=None, description="Learning rate of a backbone that is trained too, instead of that tenth."
    )
    optimizer: Literal["adamw", "sgd"] = Field(
        default="adamw", description="adamw (which is Adam at a weight decay of 0), or sgd with momentum."
    )
    momentum: Annotated[float, Field(ge=0, lt=1)] = Field(default=0.9, description="SGD's momentum.")
    weight_decay: Annotated[float, Field(ge=0, le=100)] = Field(
        default=1e-4, description="The optimizer's weight decay."
    )
    schedule: Literal["cosine", "constant", "step", "plateau"] = Field(
        default="cosine",
        description="The learning rate falls to 0 along a cosine, stays, is divided by 10 every `schedule_epochs`, or "
        "whenever the training loss has not improved for so many.",
    )
    schedule_epochs: Annotated[int, Field(ge=1, le=100_000)] = Field(
        default=3, description="Of the schedules step and plateau."
    )
    restart: Annotated[float, Field(gt=0, lt=1)] | None = Field(
        default=None, description="Share of the epochs after which the schedule begins again; by default it does not."
    )
    restart_rate: Annotated[float, Field(gt=0, le=1)] = Field(
        default=0.1, description="Share of the learning rate that it begins again with."
    )
    input_size: Annotated[int, Field(ge=32, le=4096)] | None = Field(
        default=None, description="Side of the squares the network is shown, px; by default the backbone's."
    )
    crop_from: Annotated[int, Field(ge=32, le=8192)] | None = Field(
        default=None,
        description="Squeeze images to squares of this side and crop the input from them (224 from 256, say), instead "
        "of crops of 80-100 % of the area.",
    )
    flip: bool = Field(default=True, description="Mirror every other training image.")
    colour: bool = Field(default=True, description="Vary brightness, contrast, saturation and hue in training.")
    objective: Literal["auto", "single", "multi"] = Field(
        default="auto", description="One class an image (cross-entropy) or several (binary); auto looks at the labels."
    )
    balance: bool = Field(default=True, description="Weigh rare classes up, by the square root of their rarity.")
    validation_share: Annotated[float, Field(ge=0, le=0.5)] = Field(
        default=0.1, description="Share of the labelled images held back to stop early; 0 trains on all."
    )
    patience: Annotated[int, Field(ge=1, le=100_000)] = Field(
        default=5, description="Epochs without a better validation loss before training stops."
    )
    workers: Annotated[int, Field(ge=0, le=256)] | None = Field(
        default=None, description="Processes that decode and augment; by default one a core, up to 8."
    )
    accelerator: Literal["auto", "cpu", "gpu", "cuda", "mps"] = Field(
        default="auto", description="Lightning's switch: what it is trained on."
    )
    devices: str = Field(
        default="auto",
        description="Lightning's switch: auto (every GPU), how many, or which (0,2 or 3,); each has a process and its "
        "share of a step.",
    )
    strategy: str = Field(default="auto", description="Lightning's switch: auto, ddp, ...")
    precision: str = Field(default="auto", description="auto (16-mixed on GPU, 32 elsewhere) or any of Lightning's.")

    @field_validator("weights")
    @classmethod
    def _file_that_every_directory_finds(cls, weights: str) -> str:
        return str(absolute(Path(weights))) if WEIGHTS_MARK.is_path(weights) else weights

    @field_validator("devices", mode="before")
    @classmethod
    def _a_number_or_names(cls, devices: Any) -> str:
        if not re.fullmatch(
            r"auto|-1|[1-9]\d?|\d{1,2},|\d{1,2}(,\d{1,2}){1,63}", str(devices)
        ):  # a recipe may have a number
            raise ValueError("give auto, a number of devices (2, at most 99), or those to use (0,2 or 3,)")
        return str(devices)

    @model_validator(mode="after")
    def _plateaus_do_not_restart(self) -> Self:
        if self.restart is not None and self.schedule == "plateau":
            raise ValueError("`restart` goes with the schedules cosine, constant and step, not with plateau")
        return self


class ListedCorpus(CorpusSettings):
    """A corpus whose listed images must be there, most of them."""

    min_present: Share = Field(
        default=0.5,
        description="Refuse a listing of which a smaller share of the images is there: mostly --images is the wrong "
        "folder then. 0 takes those that are there.",
    )


class TrainSettings(TrainOptions, ListedCorpus):
    """Everything `boxmine train` needs."""

    out: Path = Field(description="Folder the model is written to.")


class MineOptions(Settings):
    """How boxes are cut from activation maps."""

    scales: tuple[Scale, ...] = Field(
        default=(1.0, 1.5, 2.0), description="The pyramid, in multiples of the model's input size.", min_length=1,
        max_length=MAX_SCALES,
    )  # fmt: skip
    adaptive: Annotated[float, Field(gt=0, lt=1)] | None = Field(
        default=None,
        description="Look at the middle scale first, and at the others only where a box is not stable: where it "
        "overlaps by less than this with the one that a threshold of 0.7 times as much gives. 0.65 takes half the "
        "time of three scales. Where labels are not known, the scale nearest to 1 is run too and names the classes.",
    )
    localizer: str | None = Field(
        default=None,
        description="Draw the maps by another method than the model was trained for, where it has the "
        "same weights (cam, ccam, gradcam, gradcampp, layercam, msrd).",
    )
    options: Options = Field(
        default_factory=dict, description="The localizer's own options, instead of those the model was trained with."
    )
    threshold: CutLevel | MapThreshold | None = Field(
        default=None,
        description="Share of the normalised map a region must reach; by default the localizer's. Or a word, for one "
        "that each map tells by itself: otsu, entropy, stability.",
    )
    class_thresholds: dict[str, CutLevel] = Field(
        default_factory=dict, description="Thresholds of single classes instead, e.g. --class-thresholds.dog 0.3."
    )
    thresholds_from: Path | None = Field(
        default=None,
        description="Run directory that was scored against a truth: cut at the thresholds that `boxmine score` chose "
        "there, a class each.",
    )
    normalise: Normalisation | None = Field(
        default=None,
        description="max: negative activation is background; minmax: the lowest activation is (mLDFR eq. 9); "
        "by default the localizer's.",
    )
    class_cut: Share | None = Field(
        default=None,
        description="Where labels are not known: a class is mined when its probability reaches this; by default 0.2 "
        "for a model of one class an image, 0.4 for a model of several.",
    )
    max_classes: Annotated[int, Field(ge=1, le=10_000)] = Field(
        default=5, description="Where labels are not known: at most so many classes an image."
    )
    min_score: Share = Field(default=0.0, description="Boxes that score below are dropped.")
    min_area: Share = Field(default=0.01, description="Smallest box, as share of the image's area.")
    max_area: Share = Field(default=1.0, description="Largest box, as share of the image's area.")
    max_aspect: Annotated[float, Field(ge=1)] = Field(default=12.0, description="Longest side over shortest side.")
    max_borders: Annotated[int, Field(ge=0, le=4)] = Field(
        default=4, description="Boxes that touch more borders of the image are dropped; 3 drops border-filling ones."
    )
    merge: Literal["nms", "wbf", "none"] = Field(
        default="nms", description="Overlapping boxes of one class: keep the best (nms) or their weighted mean (wbf)."
    )
    merge_iou: Share = Field(default=0.5, description="Overlap from which boxes are merged.")
    map_side: Annotated[int, Field(ge=32, le=1_000_000)] = Field(
        default=280,
        description="Maps are cut at the image's own size, or at a smaller one with as many pixels as a square of this "
        "side. More is slower and hardly changes a box; boxes are in pixels of the image all the same.",
    )
    curves: bool = Field(
        default=True,
        description="Keep what other thresholds would have given, so that `boxmine score` can tell which is best.",
    )
    batch_size: Annotated[int, Field(ge=1, le=4096)] | None = Field(
        default=None,
        description="Images per forward pass at scale 1; by default 4 on a CPU, on a GPU up to "
        "32, what its memory holds. Halved where it holds less after all.",
    )
    shard_size: Annotated[int, Field(ge=1, le=1_000_000)] = Field(
        default=256, description="Images per unit of work and of resumption."
    )
    workers: Workers | None = Field(
        default=None, description="Threads that decode images and cut boxes; by default one a core, up to 8."
    )
    device: Annotated[str, AfterValidator(_known_device)] = Field(
        default="auto", description="auto (GPU where there is one), cpu, cuda, cuda:1, mps."
    )
    retries: Annotated[int, Field(ge=0, le=100)] = Field(default=2, description="Further tries of a shard that failed.")
    runner: Literal["local", "processes", "ray"] = Field(
        default="local",
        description="Who mines the shards: this process; processes of this machine, a GPU each; or a Ray cluster, all "
        "of whose machines must see images, model and run directory under the same paths.",
    )
    runner_workers: Workers | None = Field(
        default=None,
        description="Shards mined at a time by the runners processes and ray; by default one a GPU, or one process "
        "where there is none, and what a Ray cluster has room for.",
    )
    cpus_per_worker: Workers | None = Field(
        default=None,
        description="Cores that each of them, or this process, computes with; by default this machine's are shared "
        "out, and of a Ray cluster's each has one, beside a GPU as many as there are for one. Networks on a CPU give "
        "the same scores to the last bit only where this is the same.",
    )
    gpus_per_worker: Annotated[float, Field(ge=0, le=1)] | None = Field(
        default=None,
        description="Share of a GPU that each of a Ray cluster's has; by default all of one, where the cluster has "
        "GPUs and `device` is not cpu.",
    )
    ray_address: str | None = Field(
        default=None,
        description="Existing Ray cluster: auto, HOST:PORT or ray://HOST:PORT; by default one is started on this "
        "machine, for as long as the run takes.",
    )

    @model_validator(mode="after")
    def _least_is_not_above_most(self) -> Self:
        refuse_reversed(self, "min_area", "max_area")
        return self

    @model_validator(mode="after")
    def _runners_deal_out_the_gpus(self) -> Self:
        if self.runner != "local" and ":" in self.device:
            raise ValueError(
                f"the runner {self.runner} gives each worker its GPU: `device` is then auto, cuda or cpu, "
                f"not {self.device}"
            )
        return self

    @model_validator(mode="before")
    @classmethod
    def _thresholds_of_a_scored_run(cls, values: Any) -> Any:
        # into numbers at once: a record says what a run was cut at, whatever becomes of the other run
        if not isinstance(values, dict) or not values.get("thresholds_from") or values.get("class_thresholds"):
            return values
        given = anchored(values["thresholds_from"], MayBePath())
        if not isinstance(given, str | Path):
            return values
        run = absolute(Path(os.path.expanduser(given)))
        common, of_class = _chosen_thresholds(run)
        threshold = common if values.get("threshold") is None else values["threshold"]
        return {**values, "thresholds_from": run, "threshold": threshold, "class_thresholds": of_class}

    @field_validator("threshold", mode="wrap")
    @classmethod
    def _a_share_or_a_word(cls, value: Any, check: Callable[[Any], Any]) -> Any:
        try:
            return check(value)
        except ValidationError:
            words = ", ".join(get_args(MapThreshold))
            raise ValueError(f"Input should be greater than 0 and less than 1, or one of {words}") from None

    @field_validator("scales", mode="before")
    @classmethod
    def _scales_from_text(cls, value: Any) -> Any:
        if isinstance(value, str):
            return tuple(part.strip() for part in value.split(",") if part.strip())
        return (value,) if isinstance(value, int | float) else value


class MineSettings(MineOptions, ListedCorpus):
    """Everything `boxmine mine` needs."""

    model: ModelReference = Field(description="Model folder, or pretrained:BACKBONE for ImageNet's classes.")
    out: Path = Field(description="Run directory.")

    @field_validator("model")
    @classmethod
    def _folder_that_every_directory_finds(cls, model: str) -> str:
        return model if model.startswith("pretrained:") else str(absolute(Path(model)))


class ScoreSettings(Settings):
    """Everything `boxmine score` needs."""

    run: Path = Field(description="Run directory.")
    truth: Path = Field(description="COCO JSON with boxes, folder of VOC XML, or CUB folder.")
    maps: bool = Field(
        default=False, description="Draw the maps again, as long as mining took, for MaxBoxAcc and MaxBoxAccV2."
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
    test: CorpusChanges = Field(
        default_factory=CorpusChanges,
        description="What to mine and score, where that is not what was trained on: `split: test`, or other images.",
    )
    model: ModelReference | None = Field(
        default=None, description="Instead of training: a model folder or pretrained:BACKBONE."
    )
    train: TrainOptions = Field(default_factory=TrainOptions)
    mine: MineOptions = Field(default_factory=MineOptions)
    min_present: Share = Field(
        default=0.5, description="Refuse a listing of which a smaller share of the images is there."
    )
    truth: Path | None = Field(
        default=None, description="To score against: COCO JSON with boxes, folder of VOC XML, or CUB folder."
    )

    @model_validator(mode="after")
    def _training_needs_labels(self) -> Self:
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
    test: CorpusChanges = Field(
        default_factory=CorpusChanges, description="What to mine and compare, where that is not what was trained on."
    )
    train: TrainOptions = Field(default_factory=TrainOptions)
    mine: MineOptions = Field(default_factory=MineOptions)
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


def _chosen_thresholds(run: Path) -> tuple[float, dict[str, float]]:
    """The common threshold and those of classes that scores.json of a run directory has as chosen."""
    try:
        scores = read_json(run / "scores.json")
        thresholds = scores["thresholds"]
        chosen = thresholds["chosen"]["threshold"], thresholds["per_class"]["thresholds"]
    except (OSError, ValueError, KeyError, TypeError):
        raise ValueError(
            f"{run} has no scores.json with chosen thresholds; mine it with curves, and score it against a truth with "
            "`boxmine score`"
        ) from None
    if not digest_fits(scores):
        raise ValueError(f"{run / 'scores.json'} is damaged: run the `boxmine score` command of this run again")
    return chosen


def parse(kind: type[S], values: dict[str, Any]) -> S:
    """Validate `values`; raises InputError with one sentence a fault."""
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        raise InputError(faults_in_words(kind, error)) from None


def faults_in_words(kind: type[Settings], error: ValidationError) -> str:
    """One sentence a fault, with the value given and, for unknown names, the nearest known one."""
    return " ".join(_sentence(kind, fault) for fault in error.errors())


def _sentence(kind: type[Settings], fault: Any) -> str:
    place = ".".join(str(part) for part in fault["loc"]) or kind.__name__
    if fault["type"] == "extra_forbidden":
        return f"Unknown setting {place!r}: {did_you_mean(str(fault['loc'][-1]), _names_at(kind, fault['loc'][:-1]))}"
    reason = re.sub(r"^Value error, ", "", fault["msg"])
    if not fault["loc"]:  # of several settings together
        return f"{reason[:1].upper()}{reason[1:].rstrip('.')}."
    given = "" if fault["type"] == "missing" else f" (got {shown(fault['input'])})"
    return f"Setting {place!r}: {reason}{given}."


def _names_at(kind: type[Settings], path: tuple[str | int, ...]) -> list[str]:
    for part in path:
        inner = kind.model_fields[str(part)].annotation
        if isinstance(inner, type) and issubclass(inner, Settings):
            kind = inner
    return list(kind.model_fields)


def recorded(kind: type[Settings], record: Mapping[str, Any], name: str) -> Any:
    """A setting of a record; where the record is of before there was such a setting, what the default now is."""
    if name in record or name not in kind.model_fields:
        return record.get(name)
    return kind.model_fields[name].get_default(call_default_factory=True)
