"""Settings, validated by pydantic; the same classes define the command line's options and the forms in Prefect's UI.

Every default is the best known trade-off for a user who sets nothing.
"""

from mining.config.base import (
    Objective,
    Options,
    Seed,
    Settings,
    Share,
    format_validation_errors,
    parse,
    parse_record,
    path_mark,
    resolve_path,
    setting_or_default,
)
from mining.config.corpus import NO_LABELS, CorpusOverrides, CorpusSettings, LabelsPath, ListedCorpus
from mining.config.execution import ClusterOptions, ExecutionOptions, ShardOptions, TrainExecutionOptions, Workers
from mining.config.mine import (
    MAX_SCALES,
    BoxOptions,
    CutLevel,
    MapOptions,
    MapThreshold,
    MineOptions,
    MineSection,
    MineSettings,
    ModelReference,
    Normalisation,
    Refinement,
    Scale,
)
from mining.config.pipeline import Attempts, CompareSettings, Recipe, RetrainSettings, RunSettings, ScoreSettings
from mining.config.train import WEIGHTS_MARK, TrainOptions, TrainSection, TrainSettings, WeightsReference

__all__ = [
    "MAX_SCALES",
    "NO_LABELS",
    "WEIGHTS_MARK",
    "Attempts",
    "BoxOptions",
    "ClusterOptions",
    "CompareSettings",
    "CorpusOverrides",
    "CorpusSettings",
    "CutLevel",
    "ExecutionOptions",
    "LabelsPath",
    "ListedCorpus",
    "MapOptions",
    "MapThreshold",
    "MineOptions",
    "MineSection",
    "MineSettings",
    "ModelReference",
    "Normalisation",
    "Objective",
    "Options",
    "Recipe",
    "Refinement",
    "RetrainSettings",
    "RunSettings",
    "Scale",
    "ScoreSettings",
    "Seed",
    "Settings",
    "ShardOptions",
    "Share",
    "TrainExecutionOptions",
    "TrainOptions",
    "TrainSection",
    "TrainSettings",
    "WeightsReference",
    "Workers",
    "format_validation_errors",
    "parse",
    "parse_record",
    "path_mark",
    "resolve_path",
    "setting_or_default",
]
