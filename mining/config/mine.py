"""Settings of mining."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import Field, ValidationError, field_validator, model_validator

from mining.config.base import EarlierVersions, Objective, Options, Settings, Share, resolve_path
from mining.config.checks import check_range
from mining.config.corpus import CorpusSettings, ListedCorpus
from mining.config.execution import ExecutionOptions, ShardOptions
from mining.config.recipes import MayBePath
from mining.config.train import WeightsReference, resolve_weights

Normalisation = Literal["max", "minmax"]
Refinement = Literal["cells", "walk", "cut", "none"]
Resize = Literal["aspect", "square"]
RankBy = Literal["score", "area"]
Precision = Literal["auto", "float32", "bfloat16", "float16", "int8"]
MapThreshold = Literal["otsu", "entropy", "stability"]  # one per map, see mining.evaluation.metrics.thresholds
ModelReference = Annotated[str, MayBePath(prefix="pretrained:")]
Scale = Annotated[float, Field(ge=0.1, le=8)]
SYNSETS = Path("synsets")  # in place of a file with class names
ClassNamesPath = Annotated[Path, MayBePath(words=(str(SYNSETS),))]
MAX_SCALES = 16
CutLevel = Annotated[float, Field(gt=0, lt=1)]
CURVE_THRESHOLDS = tuple(round(0.02 * step, 2) for step in range(1, 50))  # at which a run's curves record boxes


def _is_list_of_text(value: Any) -> bool:
    return isinstance(value, list | tuple) and all(isinstance(part, str) for part in value)


def split_at_commas(texts: Iterable[str]) -> tuple[str, ...]:
    """Split texts at their commas; empty parts are dropped."""
    return tuple(part.strip() for text in texts for part in text.split(",") if part.strip())


def scales_from_text(value: Any) -> Any:
    """Accept "1,1.5,2", a number, and a list of either, as a command line gives it."""
    if isinstance(value, int | float):
        return (value,)
    texts = [value] if isinstance(value, str) else value
    return split_at_commas(texts) if _is_list_of_text(texts) else value


class PretrainedOptions(Settings):
    """The weights and the classes of `pretrained:NAME`, if they are not ImageNet's."""

    weights: WeightsReference = Field(
        default="imagenet",
        description="Of --model pretrained:NAME: 'imagenet', or a file with the weights of your own classifier of that "
        "architecture (a state dict). 'none' is a random network.",
    )
    class_names: ClassNamesPath | None = Field(
        default=None,
        description="Text file with the class names of --weights FILE, one per line, in the order of the network's "
        "outputs; by default ImageNet's, in words. 'synsets' names ImageNet's classes by their WordNet ids (n01440764 "
        "...), as the files of ILSVRC do.",
    )
    objective: Objective = Field(
        default="single",
        description="How --weights FILE was trained: one class per image (single: softmax) or several (multi: "
        "sigmoid).",
    )

    @field_validator("weights")
    @classmethod
    def _resolve_weights(cls, weights: str) -> str:
        return resolve_weights(weights)

    @field_validator("class_names")
    @classmethod
    def _resolve_class_names(cls, path: Path | None) -> Path | None:
        return path if path is None or path == SYNSETS else resolve_path(path)


class MapOptions(Settings):
    """How activation maps are computed, and of which classes."""

    scales: Annotated[tuple[Scale, ...], Field(min_length=1, max_length=MAX_SCALES)] | None = Field(
        default=None,
        description="Scales that the network runs at, in multiples of the model's input size, e.g. 1,1.5,2. By default "
        "1.5 if a cell classifier refines the maps, 1,1.5 if the walk or the cut does, and 1,1.5,2 for --adaptive and "
        "for maps that are not refined (ornet: 1).",
    )
    resize: Resize = Field(
        default="aspect",
        description="How images are resized for the network. aspect: the shorter side becomes the model's input size; "
        "square: both sides do, as in papers that test on 224 x 224 px. Boxes are in pixels of the image either way.",
    )
    adaptive: Annotated[float, Field(gt=0, lt=1)] | None = Field(
        default=None,
        description="Run the middle scale first; add the others only for images whose best box changes when the "
        "threshold is lowered to 70 % (IoU below this value), e.g. 0.65. For unlabelled images the scale nearest to 1 "
        "is run too, to predict the classes.",
    )
    localizer: str | None = Field(
        default=None,
        description="Compute the maps by another method than the model was trained for, if it uses the same weights "
        "(cam, ccam, gradcam, gradcampp, layercam, msrd).",
    )
    options: Options = Field(
        default_factory=dict, description="The localizer's own options, instead of those the model was trained with."
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
    normalise: Normalisation | None = Field(
        default=None,
        description="max: negative activation is background; minmax: the lowest activation is (mLDFR eq. 9); by "
        "default the localizer's.",
    )
    refine: Annotated[Refinement | None, EarlierVersions("none")] = Field(
        default=None,
        description="How maps are refined. cells: by the cell classifier that `boxmine train` adds to a model, so that "
        "they cover the object and end at its boundary; walk: by spreading activation to nearby cells of similar "
        "features; cut: by normalised cuts of the image into parts of similar features, chosen by the map; none: as "
        "the localizer computes them. By default cells, or walk for a model without a cell classifier.",
    )
    walk_steps: Annotated[int, Field(ge=0, le=1000)] | None = Field(
        default=None,
        description="Steps of the walk that spreads refined maps to nearby cells of similar features; by default 12 "
        "for --refine cells and 4 for --refine walk. 0 spreads nothing.",
    )
    class_crops: Literal[1, 10] = Field(
        default=1,
        description="Class probabilities of an image are those of the whole image (1), or the mean over ten crops: the "
        "four corners and the centre, plain and mirrored (10, as papers report classification). Ten crops take as long "
        "as ten further images.",
    )
    class_cut: Share | None = Field(
        default=None,
        description="For unlabelled images: minimum class probability; by default 0.2 for a model of one class per "
        "image, 0.4 for a model of several.",
    )
    max_classes: Annotated[int, Field(ge=1, le=10_000)] = Field(
        default=5, description="For unlabelled images: maximum number of classes per image."
    )
    object_boxes: bool = Field(
        default=False,
        description="For unlabelled images in which no class reaches --class-cut: boxes of the category `object`, from "
        "the maps of the five most probable classes together, to be named later. By default such images have no boxes.",
    )
    map_side: Annotated[int, Field(ge=32, le=1_000_000)] = Field(
        default=280,
        description="Boxes are extracted from maps of the image's size, or smaller ones with as many pixels as a "
        "square of this side. Larger values are slower and hardly change a box; boxes are always in image pixels.",
    )
    precision: Precision = Field(
        default="auto",
        description="Of the network's layers. auto is float16 on a GPU, bfloat16 on a CPU that computes with it, "
        "otherwise float32. float32 is slower on these; single boxes change, CorLoc does not. int8 (boxmine[int8], "
        "OpenVINO on a CPU) is faster than float32 on any recent CPU; the network is quantized with the run's images.",
    )

    @field_validator("scales", mode="before")
    @classmethod
    def _scales_from_text(cls, value: Any) -> Any:
        return scales_from_text(value)

    @field_validator("class_crops", mode="before")
    @classmethod
    def _crops_from_text(cls, value: Any) -> Any:
        """Accept "10", as a command line gives it."""
        return int(value) if isinstance(value, str) and value.isdecimal() else value

    @field_validator("classes", mode="before")
    @classmethod
    def _check_classes(cls, value: Any) -> Any:
        names = [value] if isinstance(value, str) else value
        return sorted(set(split_at_commas(names))) if _is_list_of_text(names) else value

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


class BoxOptions(Settings):
    """How boxes are extracted from activation maps, filtered and merged."""

    threshold: CutLevel | MapThreshold | None = Field(
        default=None,
        description="Minimum activation of a region, as a share of the normalised map; by default the localizer's. Or "
        "one threshold per map: otsu, entropy, stability.",
    )
    class_thresholds: dict[str, CutLevel] = Field(
        default_factory=dict, description="Thresholds of single classes, e.g. --class-thresholds.dog 0.3."
    )
    rank_by: RankBy = Field(
        default="score",
        description="What orders the boxes of a class in an image, and so which of them CorLoc evaluates. score: the "
        "default score of boxes; area: the number of pixels of their regions, so that the largest region is first, as "
        "in papers that draw one box around it.",
    )
    min_score: Share = Field(
        default=0.0,
        description="Minimum score of a box. At 0, a detector's boxes need 0.4, unless they are the best of a class "
        "that their image is labelled with.",
    )
    min_area: Share = Field(default=0.01, description="Minimum area of a box, as a share of the image's area.")
    max_area: Share = Field(default=1.0, description="Maximum area of a box, as a share of the image's area.")
    max_aspect: Annotated[float, Field(ge=1)] = Field(
        default=12.0, description="Maximum ratio of a box's longer side to its shorter side."
    )
    max_borders: Annotated[int, Field(ge=0, le=4)] = Field(
        default=4,
        description="Maximum number of image borders that a box may touch; 3 drops boxes that fill the image.",
    )
    merge: Literal["nms", "wbf", "none"] = Field(
        default="nms",
        description="Overlapping boxes of one class: keep the best (nms) or their weighted mean (wbf).",
    )
    merge_iou: Share = Field(default=0.5, description="IoU above which boxes are merged.")
    parts: Annotated[bool, EarlierVersions(False)] = Field(
        default=True,
        description="If a region falls apart at 0.8 of the maximum into parts of similar features, which may be "
        "objects side by side, add a box for each part; it scores lower than the region's. For --refine cells.",
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


class MineOptions(BoxOptions, MapOptions, PretrainedOptions):
    """What decides the boxes of an image."""


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

    model: ModelReference = Field(
        description="Model folder, or pretrained:NAME for a classifier of torchvision or timm without any training."
    )
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
