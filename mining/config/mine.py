"""Settings of mining."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import Field, ValidationError, field_validator, model_validator

from mining.config.base import Options, Settings, Share, resolve_path
from mining.config.checks import check_range
from mining.config.corpus import CorpusSettings, ListedCorpus
from mining.config.execution import ExecutionOptions, ShardOptions
from mining.config.recipes import MayBePath

Normalisation = Literal["max", "minmax"]


MapThreshold = Literal["otsu", "entropy", "stability"]  # told by each map, see mining.evaluation.metrics.thresholds


ModelReference = Annotated[str, MayBePath(prefix="pretrained:")]


Scale = Annotated[float, Field(ge=0.1, le=8)]


MAX_SCALES = 16


CutLevel = Annotated[float, Field(gt=0, lt=1)]


def _is_list_of_text(value: Any) -> bool:
    return isinstance(value, list | tuple) and all(isinstance(part, str) for part in value)


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
    classes: tuple[str, ...] = Field(
        default=(), description="Mine these classes only, e.g. --classes dog,cat; by default all classes of the model."
    )
    map: tuple[str, ...] = Field(
        default=(),
        description="Rename a class of the model, e.g. --map sorrel=horse; repeatable. Several classes that get one "
        "name become one class, whose probability is the highest of theirs. Names in --labels, --classes and "
        "--class-thresholds are the new ones.",
    )
    class_thresholds: dict[str, CutLevel] = Field(
        default_factory=dict, description="Thresholds of single classes instead, e.g. --class-thresholds.dog 0.3."
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

    @model_validator(mode="after")
    def _check_area_range(self) -> Self:
        check_range(self, "min_area", "max_area")
        return self

    @field_validator("threshold", mode="wrap")
    @classmethod
    def _check_threshold(cls, value: Any, check: Callable[[Any], Any]) -> Any:
        try:
            return check(value)
        except ValidationError:
            words = ", ".join(get_args(MapThreshold))
            raise ValueError(f"Input should be greater than 0 and less than 1, or one of {words}") from None

    @field_validator("classes", mode="before")
    @classmethod
    def _check_classes(cls, value: Any) -> Any:
        names = value.split(",") if isinstance(value, str) else value
        return sorted({name.strip() for name in names}) if _is_list_of_text(names) else value

    @field_validator("map", mode="before")
    @classmethod
    def _check_map(cls, value: Any) -> Any:
        pairs = [f"{old}={new}" for old, new in value.items()] if isinstance(value, dict) else value
        pairs = [pairs] if isinstance(pairs, str) else pairs
        if not _is_list_of_text(pairs):
            return value
        renamed = [tuple(part.strip() for part in pair.split("=")) for pair in pairs]
        if any(len(pair) != 2 or not all(pair) for pair in renamed):
            raise ValueError("give CLASS=NAME, the model's name of a class and the new one, e.g. sorrel=horse")
        if len({old for old, _ in renamed}) < len(renamed):
            raise ValueError("a class is renamed twice")
        return sorted("=".join(pair) for pair in renamed)

    @field_validator("scales", mode="before")
    @classmethod
    def _scales_from_text(cls, value: Any) -> Any:
        if isinstance(value, str):
            return tuple(part.strip() for part in value.split(",") if part.strip())
        return (value,) if isinstance(value, int | float) else value


class MineSection(ExecutionOptions, ShardOptions, MineOptions):
    """The `mine:` section of a recipe: what to mine, and how it is executed."""

    thresholds_from: Path | None = Field(
        default=None,
        description="Scored run directory: use the thresholds that `boxmine score` chose there, one per class.",
    )

    @field_validator("thresholds_from")
    @classmethod
    def _resolve_run(cls, path: Path | None) -> Path | None:
        return None if path is None else resolve_path(path.expanduser())


class MineSettings(MineSection, ListedCorpus):
    """Everything `boxmine mine` needs."""

    model: ModelReference = Field(description="Model folder, or pretrained:BACKBONE for ImageNet's classes.")
    out: Path = Field(description="Run directory.")

    @field_validator("model")
    @classmethod
    def _resolve_model(cls, model: str) -> str:
        return model if model.startswith("pretrained:") else str(resolve_path(Path(model)))

    def identity(self) -> dict[str, Any]:
        """Return the settings that a run keeps to, as JSON values: it is resumed if they are the same.

        They decide the boxes (the images and `MineOptions`) and the division into shards (`ShardOptions`).
        """
        kept = {*CorpusSettings.model_fields, *MineOptions.model_fields, *ShardOptions.model_fields, "model"}
        return self.model_dump(mode="json", include=kept)


# shares of the normalised map at which a run tells what it would have mined
CURVE_THRESHOLDS = tuple(round(0.02 * step, 2) for step in range(1, 50))
