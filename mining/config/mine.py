"""Settings of mining."""

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import AfterValidator, Field, ValidationError, field_validator, model_validator

from mining.config.base import Options, Settings, Share, resolve_path
from mining.config.checks import check_range
from mining.config.corpus import ListedCorpus
from mining.config.recipes import MayBePath, resolve_setting
from mining.storage.integrity import digest_matches
from mining.storage.untrusted_files import read_json

Normalisation = Literal["max", "minmax"]


MapThreshold = Literal["otsu", "entropy", "stability"]  # told by each map, see mining.evaluation.metrics.thresholds


_DEVICE = re.compile(r"auto|cpu|mps|cuda(:\d{1,3})?")


ModelReference = Annotated[str, MayBePath(prefix="pretrained:")]


Scale = Annotated[float, Field(ge=0.1, le=8)]


Workers = Annotated[int, Field(ge=1, le=256)]


MAX_SCALES = 16


CutLevel = Annotated[float, Field(gt=0, lt=1)]


def _check_device(device: str) -> str:
    if not _DEVICE.fullmatch(device):
        raise ValueError("give auto, cpu, mps, cuda, or cuda:1 for the second GPU")
    return device


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
    device: Annotated[str, AfterValidator(_check_device)] = Field(
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
    def _check_area_range(self) -> Self:
        check_range(self, "min_area", "max_area")
        return self

    @model_validator(mode="after")
    def _check_device_for_runner(self) -> Self:
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
        given = resolve_setting(values["thresholds_from"], MayBePath())
        if not isinstance(given, str | Path):
            return values
        run = resolve_path(Path(os.path.expanduser(given)))
        common, of_class = _chosen_thresholds(run)
        threshold = common if values.get("threshold") is None else values["threshold"]
        return {**values, "thresholds_from": run, "threshold": threshold, "class_thresholds": of_class}

    @field_validator("threshold", mode="wrap")
    @classmethod
    def _check_threshold(cls, value: Any, check: Callable[[Any], Any]) -> Any:
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
    def _resolve_model(cls, model: str) -> str:
        return model if model.startswith("pretrained:") else str(resolve_path(Path(model)))


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
    if not digest_matches(scores):
        raise ValueError(f"{run / 'scores.json'} is damaged: run the `boxmine score` command of this run again")
    return chosen


# shares of the normalised map at which a run tells what it would have mined
CURVE_THRESHOLDS = tuple(round(0.02 * step, 2) for step in range(1, 50))
