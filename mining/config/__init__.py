"""Settings, validated by pydantic; the same classes make the command line's options and the forms on Prefect's page.

Every default is meant to be the best known trade-off for a user who sets nothing.
"""

from mining.config.base import (
    Objective,
    Options,
    Seed,
    Settings,
    Share,
    format_validation_errors,
    parse,
    path_mark,
    resolve_path,
    setting_or_default,
)
from mining.config.corpus import NO_LABELS, CorpusOverrides, CorpusSettings, LabelsPath, ListedCorpus
from mining.config.execution import ExecutionOptions, ShardOptions, TrainExecutionOptions, Workers
from mining.config.mine import (
    MAX_SCALES,
    CutLevel,
    MapThreshold,
    MineOptions,
    MineSection,
    MineSettings,
    ModelReference,
    Normalisation,
    Scale,
)
from mining.config.pipeline import Attempts, CompareSettings, Recipe, RetrainSettings, RunSettings, ScoreSettings
from mining.config.train import WEIGHTS_MARK, TrainOptions, TrainSection, TrainSettings, WeightsReference

__all__ = [
    "MAX_SCALES",
    "NO_LABELS",
    "WEIGHTS_MARK",
    "Attempts",
    "CompareSettings",
    "CorpusOverrides",
    "CorpusSettings",
    "CutLevel",
    "ExecutionOptions",
    "LabelsPath",
    "ListedCorpus",
    "MapThreshold",
    "MineOptions",
    "MineSection",
    "MineSettings",
    "ModelReference",
    "Normalisation",
    "Objective",
    "Options",
    "Recipe",
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
    "path_mark",
    "resolve_path",
    "setting_or_default",
]
