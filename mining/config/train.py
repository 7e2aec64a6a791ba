"""Settings of training."""

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from mining.config.base import EarlierVersions, Options, Seed, Settings, resolve_path
from mining.config.corpus import CorpusSettings, ListedCorpus
from mining.config.execution import TrainExecutionOptions
from mining.config.recipes import MayBePath

WEIGHTS_MARK = MayBePath(words=("imagenet", "none"))


WeightsReference = Annotated[str, WEIGHTS_MARK]


def resolve_weights(weights: str) -> str:
    """Return 'imagenet' and 'none' unchanged, and the absolute path of a file."""
    return str(resolve_path(Path(weights))) if WEIGHTS_MARK.is_path(weights) else weights


class TrainOptions(Settings):
    """What decides the weights of a localizer trained from image-level labels."""

    localizer: str = Field(default="cam", description="Method: see `boxmine localizers`.")
    options: Options = Field(
        default_factory=dict, description="The localizer's own options, e.g. --options.background none."
    )
    backbone: str = Field(default="efficientnet_lite0", description="Network: see `boxmine backbones`.")
    weights: WeightsReference = Field(
        default="imagenet",
        description="'imagenet' (pretrained), 'none' (from scratch), a file of the backbone's weights, or a model "
        "folder of the same localizer and backbone; its class layers are not used if the number of classes differs.",
    )
    evaluator: Path | None = Field(
        default=None,
        description="For ornet: model folder of a classifier of the same classes and backbone, trained beforehand, "
        "which evaluates the maps; by default the evaluator learns during stage one.",
    )
    freeze: bool = Field(
        default=True, description="Train the head only: fast on small machines, and good on small data sets."
    )
    epochs: Annotated[int, Field(ge=1, le=100_000)] = Field(default=12, description="Passes over the training images.")
    views: Annotated[Annotated[int, Field(ge=0, le=100_000)] | None, EarlierVersions(0)] = Field(
        default=None,
        description="Augmented views of each image, which the epochs use in turn; 0 for new ones in every epoch. By "
        "default 1 if the backbone is frozen and only layers behind it are trained: their features are then computed "
        "once, before the first epoch. Otherwise 0.",
    )
    seed: Seed = Field(default=0, description="Random seed.")
    batch_size: Annotated[int, Field(ge=1, le=65_536)] = Field(
        default=16, description="Images per step, over all devices."
    )
    learning_rate: Annotated[float, Field(gt=0, le=100)] | None = Field(
        default=None,
        description="Learning rate of newly added layers; an unfrozen backbone uses a tenth of it. By default the "
        "localizer's: 0.003 for a head alone, less for localizers with new layers in front of it.",
    )
    backbone_rate: Annotated[float, Field(gt=0, le=100)] | None = Field(
        default=None, description="Learning rate of an unfrozen backbone, instead of a tenth."
    )
    optimizer: Literal["adamw", "sgd"] = Field(
        default="adamw", description="adamw (equal to Adam with a weight decay of 0), or sgd with momentum."
    )
    momentum: Annotated[float, Field(ge=0, lt=1)] = Field(default=0.9, description="SGD's momentum.")
    weight_decay: Annotated[float, Field(ge=0, le=100)] = Field(
        default=1e-4, description="The optimizer's weight decay."
    )
    schedule: Literal["cosine", "constant", "step", "plateau"] = Field(
        default="cosine",
        description="Learning rate schedule: cosine (to 0), constant, step (divided by 10 every `schedule_epochs`), or "
        "plateau (divided by 10 when the training loss has not improved for `schedule_epochs`).",
    )
    schedule_epochs: Annotated[int, Field(ge=1, le=100_000)] = Field(
        default=3, description="Epochs of the schedules step and plateau."
    )
    restart: Annotated[float, Field(ge=0, lt=1)] | None = Field(
        default=None,
        description="Share of the epochs after which the schedule restarts, 0 for never. By default never, except for "
        "ornet: where its stage two begins, as in its paper.",
    )
    restart_rate: Annotated[Annotated[float, Field(gt=0, le=1)] | None, EarlierVersions(0.1)] = Field(
        default=None,
        description="Share of the learning rate that the schedule restarts with; by default 0.1, or what the localizer "
        "needs (ornet: 1, with `preset: paper` 0.1).",
    )
    input_size: Annotated[int, Field(ge=32, le=4096)] | None = Field(
        default=None, description="Side of the square network input in px; by default the backbone's."
    )
    crop_from: Annotated[int, Field(ge=32, le=8192)] | None = Field(
        default=None,
        description="Resize images to squares of this side and crop the input from them (for example 224 from 256), "
        "instead of crops of 80-100 % of the area.",
    )
    flip: bool = Field(default=True, description="Random horizontal flip (p = 0.5).")
    colour: bool = Field(default=True, description="Random changes of brightness, contrast, saturation and hue.")
    objective: Literal["auto", "single", "multi"] = Field(
        default="auto",
        description="One class per image (single: cross-entropy), several (multi: binary), or auto, by the labels.",
    )
    balance: bool = Field(
        default=True, description="Weight rare classes more, by the square root of their inverse frequency."
    )
    cells: Annotated[bool, EarlierVersions(False)] = Field(
        default=True,
        description="After the training, teach a small classifier of single cells by the localizer's own maps, with "
        "which `boxmine mine` refines them (see --refine).",
    )
    validation_share: Annotated[float, Field(ge=0, le=0.5)] = Field(
        default=0.1, description="Share of the labelled images for validation and early stopping; 0 trains on all."
    )
    patience: Annotated[int, Field(ge=1, le=100_000)] = Field(
        default=5, description="Epochs without a better validation loss before training stops early."
    )
    precision: str = Field(
        default="auto",
        description="auto (16-mixed on a GPU, 32 elsewhere) or any of Lightning's. The features of a frozen backbone "
        "have the same precision, with auto that of mining: bfloat16 on a CPU that computes with it.",
    )

    @field_validator("weights")
    @classmethod
    def _resolve_weights(cls, weights: str) -> str:
        return resolve_weights(weights)

    @field_validator("evaluator")
    @classmethod
    def _resolve_evaluator(cls, folder: Path | None) -> Path | None:
        return None if folder is None else resolve_path(folder)

    @model_validator(mode="after")
    def _check_restart(self) -> Self:
        if self.restart and self.schedule == "plateau":
            raise ValueError("`restart` goes with the schedules cosine, constant and step, not with plateau")
        return self


class TrainSection(TrainExecutionOptions, TrainOptions):
    """The `train:` section of a recipe: what to train, and how it is executed."""


class TrainSettings(TrainSection, ListedCorpus):
    """Everything `boxmine train` needs."""

    out: Path = Field(description="Folder the model is written to.")
    boxes: Path | None = Field(
        default=None,
        description="True boxes of a few of the images, which teach the cell classifier where objects end: COCO JSON, "
        "folder of VOC XML, or CUB folder. All objects of an image that it lists have to be in it; an image without "
        "any box is background.",
    )

    @field_validator("boxes")
    @classmethod
    def _resolve_boxes(cls, path: Path | None) -> Path | None:
        return None if path is None else resolve_path(path)

    @model_validator(mode="after")
    def _check_boxes_are_used(self) -> Self:
        if self.boxes is not None and not self.cells:
            raise ValueError("`boxes` teach the cell classifier, which `cells` false leaves out; omit one of them")
        return self

    def identity(self) -> dict[str, Any]:
        """Return the settings that decide the weights, as JSON values: a training is resumed if they are the same."""
        return self.model_dump(mode="json", include={*CorpusSettings.model_fields, *TrainOptions.model_fields})
