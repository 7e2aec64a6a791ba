"""Where a labelling job keeps its things, and what it mines by."""

import re
import secrets
from pathlib import Path

from mining.cards import PRETRAINED, ModelCard, read_card
from mining.config import MineSettings
from mining.files import TEMPORARY
from mining.runs import RunDirectory
from mining.store.settings import LabelSettings

LAST_JOB = "last.json"  # what the last job came to


class Places:
    """Where a job keeps its things."""

    def __init__(self, settings: LabelSettings) -> None:
        self.runs = settings.runs
        self.name = settings.name
        self.work = settings.runs / f".{settings.name}"
        self.hashes = self.work / "hashes.sqlite"
        self.listed = self.work / "listed.parquet"
        self.model = self.work / "model"
        self.ledger = self.work / f"{TEMPORARY}ledger.sqlite"
        self.changes = self.work / f"{TEMPORARY}changes"
        self.view = self.work / f"{TEMPORARY}view"
        self.record = self.work / LAST_JOB

    def run_directories(self) -> list[RunDirectory]:
        """The job's runs, first one first."""
        found = [path for path in self.runs.glob(f"{self.name}-*-*") if (path / "run.json").is_file()]
        return [RunDirectory(path) for path in sorted(found) if run_number(path.name, self.name) is not None]


def run_name(name: str, number: int) -> str:
    """Of a new run: jobs on several machines may give the same number, but not the same name."""
    return f"{name}-{number:05d}-{secrets.token_hex(3)}"


def run_number(run: str, name: str) -> int | None:
    """The number in a run's name; None for runs of others, of `shop-2` too where the corpus is `shop`."""
    found = re.fullmatch(rf"{re.escape(name)}-(\d{{5,}})-[0-9a-f]{{6}}", run)
    return int(found[1]) if found else None


def model_of(settings: LabelSettings) -> ModelCard:
    """The model's card. Raises ModelError."""
    if not settings.model.startswith(PRETRAINED):
        return read_card(Path(settings.model))
    from mining.models import put_model

    return put_model(settings.model, Places(settings).model)


def mine_settings(settings: LabelSettings, out: Path) -> MineSettings:
    """How a run of the job is mined. out: its run directory."""
    folder = Places(settings).model if settings.model.startswith(PRETRAINED) else Path(settings.model)
    # the listing is the table that the run is given: what becomes of the label file later does not matter to it
    return MineSettings(images=settings.corpus.images, **dict(settings.mine), model=str(folder.resolve()), out=out)
