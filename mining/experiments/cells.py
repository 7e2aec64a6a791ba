"""The cells of an experiment: one measurement per corpus, variant, seed and pyramid."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mining.config import MineSettings, TrainOptions, TrainSettings
from mining.experiments.settings import ExperimentSettings
from mining.runs.inputs import resolve_thresholds


@dataclass(frozen=True)
class Cell:
    """One measurement of an experiment.

    Attributes:
        corpus: Name of the corpus.
        variant: Name of the variant.
        seed: Seed of the training.
        scales: Scales to mine at.
        train: Settings of the training; cells with equal settings share one model folder.
        mine: Settings of the mining.
        truth: Ground truth to score against.
        figures: File of the measured figures.
        experiment: Folder of the experiment.
    """

    corpus: str
    variant: str
    seed: int
    scales: tuple[float, ...]
    train: TrainSettings
    mine: MineSettings
    truth: Path
    figures: Path
    experiment: Path

    def __str__(self) -> str:
        """Return the cell in words, for progress lines."""
        return f"{self.corpus}, {self.variant}, seed {self.seed}, scales {scales_text(self.scales)}"

    def identity(self) -> dict[str, Any]:
        """Return the settings that the figures depend on."""
        return {
            "train": self.train.identity(),
            "mine": {name: value for name, value in self.mine.identity().items() if name != "model"},
            "truth": str(self.truth),
        }


def make_cells(settings: ExperimentSettings) -> list[Cell]:
    """Return all cells, seed by seed, so that the first seed of every variant is measured early."""
    return [
        _cell(settings, corpus, variant, seed, scales)
        for seed in settings.seeds
        for corpus in settings.corpora
        for variant in settings.variants
        for scales in settings.pyramids
    ]


def scales_text(scales: tuple[float, ...]) -> str:
    """Return the scales as text, such as "1, 1.5, 2"."""
    return ", ".join(f"{scale:g}" for scale in scales)


def _cell(settings: ExperimentSettings, corpus: str, variant: str, seed: int, scales: tuple[float, ...]) -> Cell:
    images, folder = settings.corpora[corpus], settings.out / corpus
    trained_in = settings.out / _first_with_this_training(settings, corpus)
    options = settings.train_options(variant, seed)
    digest = _digest(options.model_dump(mode="json", include=set(TrainOptions.model_fields)))
    model = trained_in / "models" / f"{options.localizer}-{seed}-{digest}"
    name = f"{variant}-{scales_text(scales).replace(', ', '-')}-seed{seed}"
    return Cell(
        corpus, variant, seed, scales,
        train=TrainSettings(**dict(images.train_corpus()), **dict(options), out=model),
        mine=MineSettings(
            **dict(images.test_corpus()), **dict(resolve_thresholds(settings.mine_options(variant, scales))),
            model=str(model), out=folder / "runs" / name,
        ),
        truth=images.truth, figures=folder / "figures" / f"{name}.json", experiment=settings.out,
    )  # fmt: skip


def _first_with_this_training(settings: ExperimentSettings, corpus: str) -> str:
    """Return the first corpus with the same images to train on: both share its models."""
    images = settings.corpora[corpus].train_corpus()
    return next(name for name, other in settings.corpora.items() if other.train_corpus() == images)


def _digest(values: dict[str, object]) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:8]
