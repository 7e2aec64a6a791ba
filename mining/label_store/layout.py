"""Where a labelling job keeps its things, and what it mines by."""

import re
import secrets
from pathlib import Path

from mining.config import MineSettings
from mining.errors import RunError
from mining.label_store.settings import LabelSettings
from mining.models.card import PRETRAINED, ModelCard, read_card
from mining.runs.run import Run
from mining.storage.ownership import (
    delete_temporaries,
    find_temporaries,
    foreign_entries,
    mark_folder,
    temporary_path,
    token_of,
)

LAST_JOB = "last.json"  # what the last job came to
_KIND = "labelling job"
_OF_EARLIER_VERSIONS = re.compile(r"hashes\.sqlite.*|listed\.parquet|model|last\.json|log\.jsonl|\.tmp-.*")


class JobLayout:
    """Where a job keeps its things."""

    def __init__(self, settings: LabelSettings) -> None:
        self.runs = settings.runs
        self.name = settings.name
        self.work = settings.runs / f".{settings.name}"
        self.hashes = self.work / "hashes.sqlite"
        self.listed = self.work / "listed.parquet"
        self.model = self.work / "model"
        self.ledger = temporary_path(self.work / "ledger.sqlite")
        self.changes = temporary_path(self.work / "changes")
        self.view = temporary_path(self.work / "view")
        self.todo = temporary_path(self.work / "todo.parquet")
        self.record = self.work / LAST_JOB

    def claim(self) -> None:
        """Mark the work folder as the job's; raises RunError where it holds other things. The caller has it locked."""
        if token_of(self.work, _KIND) is None:
            names = foreign_entries(self.work)
            foreign = [name for name in names if not _OF_EARLIER_VERSIONS.fullmatch(name)]
            if foreign:
                raise RunError(
                    f"{self.work} holds other things (e.g. {foreign[0]!r}); it would be the job's work folder. Give "
                    "another `name` or another `runs` folder. Nothing in it was touched."
                )
        mark_folder(self.work, _KIND)

    def temporaries(self) -> list[Path]:
        """What killed jobs left half written or half deleted."""
        return find_temporaries(self.work, ("model",))

    def sweep(self) -> int:
        """Delete it; gives how many files and folders."""
        return delete_temporaries(self.work, ("model",))

    def run_directories(self) -> list[Run]:
        """The job's runs, first one first."""
        found = [path for path in self.runs.glob(f"{self.name}-*-*") if (path / "run.json").is_file()]
        return [Run(path) for path in sorted(found) if run_number(path.name, self.name) is not None]


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
    from mining.models.install import install_model

    return install_model(settings.model, JobLayout(settings).model)


def mine_settings(settings: LabelSettings, out: Path) -> MineSettings:
    """How a run of the job is mined. out: its run directory."""
    folder = JobLayout(settings).model if settings.model.startswith(PRETRAINED) else Path(settings.model)
    # the listing is the table that the run is given: what becomes of the label file later does not matter to it
    return MineSettings(images=settings.corpus.images, **dict(settings.mine), model=str(folder.resolve()), out=out)
