"""What there is to measure: a cell for each corpus, variant, seed and pyramid."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

from mining.config import MineSettings, TrainOptions, TrainSettings
from mining.experiments.settings import ExperimentSettings
from mining.runs.inputs import resolve_thresholds


@dataclass(frozen=True)
class Cell:
    """One measurement. train, mine: the settings of its two commands; cells of one training name one model folder.

    figures: the file that keeps what was measured. experiment: the folder of all.
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
        return f"{self.corpus}, {self.variant}, seed {self.seed}, scales {in_words(self.scales)}"

    def identity(self) -> dict[str, object]:
        """What the recipe says that the figures depend on."""
        return {
            "train": self.train.identity(),
            "mine": {name: value for name, value in self.mine.identity().items() if name != "model"},
            "truth": str(self.truth),
        }


def cells(settings: ExperimentSettings) -> list[Cell]:
    """All cells, seed by seed, so that there is something of everything early."""
    return [
        _cell(settings, corpus, variant, seed, scales)
        for seed in settings.seeds
        for corpus in settings.corpora
        for variant in settings.variants
        for scales in settings.pyramids
    ]


def in_words(scales: tuple[float, ...]) -> str:
    """'1, 1.5, 2'."""
    return ", ".join(f"{scale:g}" for scale in scales)


def _cell(settings: ExperimentSettings, corpus: str, variant: str, seed: int, scales: tuple[float, ...]) -> Cell:
    photos, folder = settings.corpora[corpus], settings.out / corpus
    options = settings.train_options(variant, seed)
    weights = _digest(options.model_dump(mode="json", include=set(TrainOptions.model_fields)))
    model = folder / "models" / f"{options.localizer}-{seed}-{weights}"
    name = f"{variant}-{in_words(scales).replace(', ', '-')}-seed{seed}"
    return Cell(
        corpus, variant, seed, scales,
        train=TrainSettings(**dict(photos.train_corpus()), **dict(options), out=model),
        mine=MineSettings(
            **dict(photos.test_corpus()), **dict(resolve_thresholds(settings.mine_options(variant, scales))),
            model=str(model), out=folder / "runs" / name,
        ),
        truth=photos.truth, figures=folder / "figures" / f"{name}.json", experiment=settings.out,
    )  # fmt: skip


def _digest(values: dict[str, object]) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:8]
