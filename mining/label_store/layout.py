"""Files and folders of a labelling job, and the settings of its runs."""

import re
import secrets
from pathlib import Path

from mining.config import MineSettings
from mining.errors import RunError
from mining.label_store.settings import LabelSettings
from mining.models.card import PRETRAINED, ModelCard, read_card
from mining.models.class_selection import rename_classes, select_classes
from mining.models.pretrained_choice import only_weights
from mining.runs.run import Run
from mining.storage.ownership import (
    delete_temporaries,
    find_temporaries,
    foreign_entries,
    mark_folder,
    temporary_path,
    token_of,
)

LAST_JOB = "last.json"  # the result of the last job
_KIND = "labelling job"
_OF_EARLIER_VERSIONS = re.compile(r"hashes\.sqlite.*|listed\.parquet|model|last\.json|log\.jsonl|\.tmp-.*")


class JobLayout:
    """Files and folders of a labelling job.

    Attributes:
        runs: Folder of the run directories, one per job that mined something.
        name: Name of the corpus; run directories start with it.
        work: Folder of the job's own files, inside `runs`.
        hashes: Cache of the hashes of the image files.
        listed: Corpus table of the images that are listed now.
        model: Folder of a pretrained model.
        diff: Tables of the comparison with the last version.
        changes: New rows of the next version.
        view: A version laid out as a run, to be scored.
        todo: Corpus table of the images to mine.
        record: Result of the last job.
    """

    def __init__(self, settings: LabelSettings) -> None:
        """Name the files of the job that the settings describe; nothing is created."""
        self.runs = settings.runs
        self.name = settings.name
        self.work = settings.runs / f".{settings.name}"
        self.hashes = self.work / "hashes.sqlite"
        self.listed = self.work / "listed.parquet"
        self.model = self.work / "model"
        self.diff = temporary_path(self.work / "diff.sqlite")
        self.changes = temporary_path(self.work / "changes")
        self.view = temporary_path(self.work / "view")
        self.todo = temporary_path(self.work / "todo.parquet")
        self.record = self.work / LAST_JOB

    def claim(self) -> None:
        """Mark the work folder as the job's own; the caller holds its lock.

        Raises:
            RunError: It holds other things.
        """
        if token_of(self.work, _KIND) is None:
            names = foreign_entries(self.work)
            foreign = [name for name in names if not _OF_EARLIER_VERSIONS.fullmatch(name)]
            if foreign:
                raise RunError(
                    f"{self.work} holds other things (e.g. {foreign[0]!r}), but is needed as the job's work folder. "
                    "Give another `name` or another `runs` folder. Nothing in it was touched."
                )
        mark_folder(self.work, _KIND)

    def temporaries(self) -> list[Path]:
        """Return temporary files and folders that killed jobs left."""
        return find_temporaries(self.work, ("model",))

    def sweep(self) -> int:
        """Delete temporary files and folders that killed jobs left; return their number."""
        return delete_temporaries(self.work, ("model",))

    def run_directories(self) -> list[Run]:
        """Return the job's runs, oldest first."""
        paths = [path for path in self.runs.glob(f"{self.name}-*-*") if (path / "run.json").is_file()]
        return [Run(path) for path in sorted(paths) if run_number(path.name, self.name) is not None]


def run_name(name: str, number: int) -> str:
    """Return a name for a new run; jobs on several machines may use the same number, but never the same name."""
    return f"{name}-{number:05d}-{secrets.token_hex(3)}"


def run_number(run: str, name: str) -> int | None:
    """Return the number in a run's name; None for runs of other corpora (`shop-2` is not `shop`)."""
    match = re.fullmatch(rf"{re.escape(name)}-(\d{{5,}})-[0-9a-f]{{6}}", run)
    return int(match[1]) if match else None


def install_job_model(settings: LabelSettings) -> ModelCard:
    """Return the model's card with the classes that are mined; a pretrained model is first downloaded.

    Raises:
        ModelError: The model cannot be used, or lacks a class of the settings.
    """
    return select_classes(_full_card(settings), settings.mine)


def label_card(settings: LabelSettings) -> ModelCard:
    """Return the model's card with all classes that labels may name, renamed. Raises ModelError."""
    return rename_classes(_full_card(settings), settings.mine)


def _full_card(settings: LabelSettings) -> ModelCard:
    if not settings.model.startswith(PRETRAINED):
        return read_card(Path(settings.model))
    from mining.models.install import install_model

    return install_model(settings.model, JobLayout(settings).model, only_weights(settings.mine))


def mine_settings(settings: LabelSettings, out: Path) -> MineSettings:
    """Return the settings by which the job mines the run directory `out`."""
    folder = JobLayout(settings).model if settings.model.startswith(PRETRAINED) else Path(settings.model)
    # without `labels`: the run gets the table of listed images, and does not depend on the label file any more
    return MineSettings(images=settings.corpus.images, **dict(settings.mine), model=str(folder.resolve()), out=out)
