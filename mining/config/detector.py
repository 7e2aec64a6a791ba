"""Settings of detectors, which are trained from boxes."""

from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import AfterValidator, Field, field_validator, model_validator

from mining.config.base import Seed, Settings, Share, resolve_path
from mining.config.execution import check_device, check_devices
from mining.config.recipes import MayBePath
from mining.errors import did_you_mean

DetectorKind = Literal["fcos", "retinanet", "faster-rcnn"]
DETECTOR_KINDS: tuple[str, ...] = get_args(DetectorKind)
DETECTOR_WEIGHTS_MARK = MayBePath(words=("imagenet", "coco", "none"))
_GROUPS = 32  # of the heads' group norm, which needs two channels per group where a map has one cell


class DetectorNetworkOptions(Settings):
    """What a detector's network is built from, besides its backbone and its classes."""

    kind: DetectorKind = Field(
        default="fcos",
        description="fcos (without anchors: each cell near a box's centre predicts the distances to its sides), "
        "retinanet (nine anchors per cell), or faster-rcnn (two stages: regions are proposed, then classified).",
    )
    side: Annotated[int, Field(ge=32, le=4096)] = Field(
        default=320, description="Longer side in px that images are resized to."
    )
    channels: Annotated[int, Field(ge=2 * _GROUPS, le=1024, multiple_of=_GROUPS)] = Field(
        default=96, description="Channels of the feature pyramid and the head; a multiple of 32, at least 64."
    )
    convolutions: Annotated[int, Field(ge=1, le=4)] = Field(
        default=2,
        description="3x3 convolutions of each branch of the head, before its output; of faster-rcnn, of each stage.",
    )
    frozen_stages: Annotated[int, Field(ge=0, le=1000)] = Field(
        default=3, description="First stages of the backbone that are not trained; 0 trains all of them."
    )

    @field_validator("kind", mode="before")
    @classmethod
    def _check_kind(cls, kind: Any) -> Any:
        if kind not in DETECTOR_KINDS:
            raise ValueError(f"unknown detector, {did_you_mean(str(kind), DETECTOR_KINDS)}".rstrip("."))
        return str(kind)


class DetectorOptions(DetectorNetworkOptions):
    """What decides the weights of a detector trained from boxes."""

    backbone: str = Field(default="efficientnet_lite0", description="Network: see `boxmine backbones`.")
    weights: Annotated[str, DETECTOR_WEIGHTS_MARK] = Field(
        default="imagenet",
        description="'imagenet' (pretrained), 'coco' (of backbone resnet50: that of torchvision's Faster R-CNN, which "
        "has learned from COCO's boxes), 'none' (from scratch), a file of the backbone's weights, or the model folder "
        "of a detector of the same kind, backbone and classes.",
    )
    epochs: Annotated[int, Field(ge=1, le=100_000)] = Field(default=20, description="Passes over the training images.")
    batch_size: Annotated[int, Field(ge=1, le=65_536)] = Field(
        default=8, description="Images per step, over all devices."
    )
    learning_rate: Annotated[float, Field(gt=0, le=100)] = Field(
        default=1e-3, description="Learning rate of the layers behind the backbone (AdamW, cosine schedule)."
    )
    backbone_rate: Annotated[float, Field(gt=0, le=100)] | None = Field(
        default=None,
        description="Learning rate of the backbone's trained stages; by default a fifth of `learning_rate`.",
    )
    weight_decay: Annotated[float, Field(ge=0, le=100)] = Field(default=1e-2, description="AdamW's weight decay.")
    clip: Annotated[float, Field(gt=0, le=1e6)] = Field(
        default=5.0, description="Greatest norm of the gradient; larger ones are scaled to it."
    )
    warm_up: Annotated[int, Field(ge=0, le=1_000_000)] = Field(
        default=100, description="Steps in which the learning rate rises to its full value, at most a tenth of all."
    )
    flip: bool = Field(default=True, description="Random horizontal flip (p = 0.5).")
    crop: bool = Field(
        default=True,
        description="Random crops of half the sides or more that hold the centre of a box (p = 0.6). What they cut off "
        "from an object whose centre is outside is neither object nor background.",
    )
    colour: bool = Field(default=True, description="Random changes of brightness, contrast, saturation and hue.")
    drop_share: Annotated[float, Field(ge=0, lt=1)] = Field(
        default=0.0,
        description="Share of the boxes of an image, rounded, that a step leaves out because their loss is highest, "
        "as wrong boxes' often is; the last box of an image is never left out. 0 leaves out none.",
    )
    drop_after: Share = Field(
        default=0.3, description="Share of the epochs before the first that leaves out boxes, see `drop_share`."
    )
    ema_decay: Annotated[float, Field(ge=0, lt=1)] = Field(
        default=0.0,
        description="Decay per step of an exponential moving average of the weights, which is the detector in the end "
        "(a mean teacher), for example 0.99. 0 takes the weights after the last step.",
    )
    seed: Seed = Field(default=0, description="Random seed.")
    precision: str = Field(
        default="auto",
        description="auto (16-mixed on a GPU, bf16-mixed on a CPU with instructions for it, 32 elsewhere) or any of "
        "Lightning's precisions.",
    )

    @field_validator("weights")
    @classmethod
    def _resolve_weights(cls, weights: str) -> str:
        return str(resolve_path(Path(weights))) if DETECTOR_WEIGHTS_MARK.is_path(weights) else weights

    @model_validator(mode="after")
    def _check_trained_backbone(self) -> Self:
        if self.weights == "none" and self.frozen_stages:
            raise ValueError("stages of random weights would be frozen: give `frozen_stages` 0, or omit `weights` none")
        return self

    @property
    def network(self) -> DetectorNetworkOptions:
        """The options that the network is built from."""
        return DetectorNetworkOptions(**self.model_dump(include=set(DetectorNetworkOptions.model_fields)))


class DetectorExecutionOptions(Settings):
    """How the training of a detector is executed."""

    workers: Annotated[int, Field(ge=0, le=256)] | None = Field(
        default=None, description="Processes that decode and augment images; by default one per core, at most 8."
    )
    device: Annotated[str, AfterValidator(check_device)] = Field(
        default="auto", description="auto (a GPU if there is one), cpu, cuda, cuda:1, mps."
    )
    devices: str = Field(
        default="auto",
        description="With `device` auto or cuda: auto (every GPU), a number, or a list (0,2 or 3,). Each device has a "
        "process and its share of every batch.",
    )

    @field_validator("devices", mode="before")
    @classmethod
    def _check_devices(cls, devices: Any) -> str:
        return check_devices(devices)

    @model_validator(mode="after")
    def _check_one_choice(self) -> Self:
        if ":" in self.device and self.devices not in ("auto", "1"):
            raise ValueError(f"`device` {self.device} is one GPU: omit `devices` {self.devices}, or give `device` cuda")
        return self


class DetectorSection(DetectorExecutionOptions, DetectorOptions):
    """The `detector:` section of a recipe: what to train, and how it is executed."""


class DetectorSettings(DetectorSection):
    """Everything the training of a detector needs besides its images, classes and model folder."""

    def identity(self) -> dict[str, Any]:
        """Return the settings that decide the weights, as JSON values: a training is resumed if they are the same.

        An average that is not asked for is left out, so that detectors from before there was one are the same.
        """
        values = self.model_dump(mode="json", include={*DetectorOptions.model_fields})
        return values if self.ema_decay else {name: value for name, value in values.items() if name != "ema_decay"}

    @property
    def weights_folder(self) -> Path | None:
        """The folder of the detector that the training starts from; None if it starts from a backbone's weights."""
        path = Path(self.weights)
        return path if DETECTOR_WEIGHTS_MARK.is_path(self.weights) and path.is_dir() else None
