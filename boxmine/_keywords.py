"""The keyword arguments of the functions: the settings that the commands have as options, by the same names.

A test compares these with the fields of the settings, which have each one's meaning, default and range.
"""

from collections.abc import Mapping, Sequence
from os import PathLike
from typing import Any, Literal, TypedDict

AnyPath = str | PathLike[str]


class CorpusKeywords(TypedDict, total=False):
    """Which images: see `mining.config.ListedCorpus`."""

    split: str | None
    min_present: float


class ExtractionKeywords(TypedDict, total=False):
    """How boxes are made from activation maps: see `mining.config.MineOptions`."""

    weights: AnyPath
    class_names: AnyPath | None
    objective: Literal["single", "multi"]
    scales: float | Sequence[float] | str | None
    resize: Literal["aspect", "square"]
    adaptive: float | None
    localizer: str | None
    options: Mapping[str, Any]
    threshold: float | Literal["otsu", "entropy", "stability"] | None
    class_thresholds: Mapping[str, float]
    thresholds_from: AnyPath | None
    normalise: Literal["max", "minmax"] | None
    refine: Literal["cells", "walk", "cut", "none"] | None
    walk_steps: int | None
    classes: Sequence[str]
    map: Sequence[str] | Mapping[str, str]
    class_crops: Literal[1, 10]
    class_cut: float | None
    max_classes: int
    object_boxes: bool
    rank_by: Literal["score", "area"]
    min_score: float
    min_area: float
    max_area: float
    max_aspect: float
    max_borders: int
    merge: Literal["nms", "wbf", "none"]
    merge_iou: float
    parts: bool
    map_side: int
    precision: Literal["auto", "float32", "bfloat16", "float16", "int8"]
    curves: bool
    batch_size: int | None
    workers: int | None
    device: str
    runtime: Literal["auto", "torch", "openvino"]
    cpus_per_worker: int | None


class MineKeywords(CorpusKeywords, ExtractionKeywords, total=False):
    """Keyword arguments of `boxmine.mine`."""

    shard_size: int
    retries: int


class TrainKeywords(CorpusKeywords, total=False):
    """Keyword arguments of `boxmine.train`: see `mining.config.TrainOptions`."""

    localizer: str
    options: Mapping[str, Any]
    backbone: str
    weights: AnyPath
    evaluator: AnyPath | None
    freeze: bool
    epochs: int
    views: int | None
    seed: int
    batch_size: int
    learning_rate: float | None
    backbone_rate: float | None
    optimizer: Literal["adamw", "sgd"]
    momentum: float
    weight_decay: float
    schedule: Literal["cosine", "constant", "step", "plateau"]
    schedule_epochs: int
    restart: float | None
    restart_rate: float | None
    input_size: int | None
    crop_from: int | None
    flip: bool
    colour: bool
    objective: Literal["auto", "single", "multi"]
    balance: bool
    cells: bool
    validation_share: float
    patience: int
    workers: int | None
    runtime: Literal["auto", "torch", "openvino"]
    accelerator: Literal["auto", "cpu", "gpu", "cuda", "mps"]
    devices: str | int
    strategy: str
    pictures: int
    precision: str


class MapsKeywords(TypedDict, total=False):
    """Keyword arguments of `boxmine.maps`: see `mining.config.MapsSettings`."""

    classes: Sequence[str] | str
    max_classes: int
    localizers: Sequence[str] | str
    scales: float | Sequence[float] | str | None
    max_images: int
    device: str


class ExportKeywords(TypedDict, total=False):
    """Keyword arguments of `Run.export`: see `mining.export.export`."""

    min_score: float
    min_precision: float | None
    copy: bool
    val_share: float
    seed: int
    include_empty: bool
    val_truth: AnyPath | None
    used_classes: bool
    plan: AnyPath | None
    license: str | None
    near_duplicates: bool
