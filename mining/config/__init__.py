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
from mining.config.mine import (
    MAX_SCALES,
    CutLevel,
    MapThreshold,
    MineOptions,
    MineSettings,
    ModelReference,
    Normalisation,
    Scale,
    Workers,
)
from mining.config.pipeline import Attempts, CompareSettings, Recipe, RetrainSettings, RunSettings, ScoreSettings
from mining.config.train import WEIGHTS_MARK, TrainOptions, TrainSettings, WeightsReference

__all__ = [
    "MAX_SCALES",
    "NO_LABELS",
    "WEIGHTS_MARK",
    "Attempts",
    "CompareSettings",
    "CorpusOverrides",
    "CorpusSettings",
    "CutLevel",
    "LabelsPath",
    "ListedCorpus",
    "MapThreshold",
    "MineOptions",
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
    "Share",
    "TrainOptions",
    "TrainSettings",
    "WeightsReference",
    "Workers",
    "format_validation_errors",
    "parse",
    "path_mark",
    "resolve_path",
    "setting_or_default",
]
