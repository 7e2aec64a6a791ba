"""A run directory: immutable once finished, resumable until then, explaining itself.

run.json, corpus.parquet, model/, parts/part-*.parquet, quarantine.parquet,
annotations.parquet, curves.parquet, rankings.parquet, annotations.json, scores.json, report/index.html
"""

import fcntl
import os
import platform
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

from mining import __version__
from mining.cards import CARD_FILE, PRETRAINED, read_card
from mining.config import MineSettings, parse, recorded
from mining.errors import InputError, RunError
from mining.files import storage_errors, sweep_temporary, write_json
from mining.integrity import check_file, open_table
from mining.run_record import FORMAT, RUN_FILE, read_run_record

CORPUS_FILE = "corpus.parquet"
ANNOTATIONS_FILE = "annotations.parquet"
CURVES_FILE = "curves.parquet"
RANKINGS_FILE = "rankings.parquet"
COCO_FILE = "annotations.json"
QUARANTINE_FILE = "quarantine.parquet"
SCORES_FILE = "scores.json"
REPORT_FILE = "report/index.html"
DIGESTED_FILES = (
    CORPUS_FILE, f"model/{CARD_FILE}", ANNOTATIONS_FILE, CURVES_FILE, RANKINGS_FILE, QUARANTINE_FILE, COCO_FILE,
)  # fmt: skip
HOW_IT_IS_RUN = {
    "workers", "device", "retries", "runner", "runner_workers", "cpus_per_worker", "gpus_per_worker", "ray_address",
}  # fmt: skip
NO_MATTER_IN_MINING = HOW_IT_IS_RUN | {"out", "curves", "min_present"}  # settings that do not change a box
_VERSIONS = ("torch", "torchvision", "timm", "opencv-python-headless", "numpy", "pyarrow", "prefect")

_LOCK_TRIES, _LOCK_PAUSE = 4, 0.1  # seconds: somebody may just be looking whether it is held

PART_ORIGINS = "part_origins"  # key of run.json: its parts say what they were made from

State = Literal["running", "stopped", "finished"]


class RunDirectory:
    """Paths and the record of one run."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.corpus = path / CORPUS_FILE
        self.model = path / "model"
        self.parts = path / "parts"
        self.annotations = path / ANNOTATIONS_FILE
        self.curves = path / CURVES_FILE
        self.rankings = path / RANKINGS_FILE
        self.coco = path / COCO_FILE
        self.quarantine = path / QUARANTINE_FILE
        self.scores = path / SCORES_FILE
        self.report = path / REPORT_FILE

    def part(self, shard: int) -> Path:
        """Where the boxes of a shard go."""
        return self.parts / f"part-{shard:05d}.parquet"

    def curve_part(self, shard: int) -> Path:
        """Where its curves go."""
        return self.parts / f"curves-{shard:05d}.parquet"

    def files_of(self, shard: int, *, curves: bool) -> tuple[Path, Path | None]:
        """Both, the curves where they are wanted."""
        return self.part(shard), self.curve_part(shard) if curves else None

    def read(self) -> dict[str, Any]:
        """The content of run.json; raises RunError when this is no run directory."""
        return read_run_record(self.path)

    def settings(self) -> MineSettings:
        """What the run was asked to do."""
        try:
            return parse(MineSettings, self.read()["config"])
        except InputError as error:
            raise RunError(f"{self.path / RUN_FILE} holds settings that cannot be used: {error}") from None

    def has_started(self) -> bool:
        """True where there is a record."""
        return (self.path / RUN_FILE).exists()

    def is_finished(self) -> bool:
        """True when everything has been written."""
        return bool(self.read()["state"] == "finished")

    def need_finished(self) -> dict[str, Any]:
        """The record of a finished run; raises RunError with the remedy otherwise."""
        record = self.read()
        if record["state"] != "finished":
            raise RunError(f"The run {self.path} is not finished; give its `boxmine mine` command again to carry on.")
        check_file(self.model / CARD_FILE)
        return record

    def open(self, settings: MineSettings, identity: dict[str, Any]) -> Literal["new", "resumed", "finished"]:
        """Start the run here, or carry on with the same one.

        identity: fingerprints of the inputs. Raises RunError when the folder holds something else.
        """
        if not self.has_started():
            self._refuse_foreign_folder()
            self.update(
                format=FORMAT, name=self.path.name, state="running", config=settings.model_dump(mode="json"),
                inputs=identity, versions=versions(), started=now(), counts={}, seconds={}, **{PART_ORIGINS: True},
            )  # fmt: skip
            return "new"
        record = self.read()
        self.refuse_other_run(record, settings, identity)
        if record["state"] == "finished":
            return "finished"
        sweep_temporary(self.path)
        how = settings.model_dump(mode="json", include=HOW_IT_IS_RUN)  # another machine may lack the device
        config, resumed = {**record["config"], **how}, [*record.get("resumed", []), now()]
        self.update(state="running", failed=None, config=config, resumed=resumed)
        return "resumed"

    def first_reasons(self, count: int = 3) -> list[str]:
        """Why the first images of the quarantine could not be used."""
        with open_table(self.quarantine) as file:
            table = file.read(columns=["reason"])
        return [str(reason) for reason in table.slice(0, count)["reason"].to_pylist()]

    def discard_start(self, *, with_model: bool) -> None:
        """Take back a start that came to nothing, so that the corrected command may use the same folder."""
        (self.path / RUN_FILE).unlink(missing_ok=True)
        self.corpus.unlink(missing_ok=True)
        if with_model:
            shutil.rmtree(self.model, ignore_errors=True)

    def update(self, **values: Any) -> None:
        """Write `values` over the record, whole or not at all."""
        record = self.read() if self.has_started() else {}
        write_json(self.path / RUN_FILE, {**record, **values})

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the run for this process; raises RunError while another one works on it."""
        with storage_errors(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
            handle = os.open(self.path, os.O_RDONLY)  # the folder itself, so that no file is added
        try:
            if not _locked(handle, _LOCK_TRIES):
                raise RunError(f"Another process is working on {self.path}; wait for it, or give another --out.")
            yield
        finally:
            os.close(handle)
            with suppress(OSError):  # where nothing came of it, the folder goes too
                self.path.rmdir()

    def is_worked_on(self) -> bool:
        """Whether a process holds it."""
        handle = os.open(self.path, os.O_RDONLY)
        try:
            return not _locked(handle, 1)
        finally:
            os.close(handle)

    def _refuse_foreign_folder(self) -> None:
        own = {"model", RUN_FILE}
        if self.path.is_file():
            raise RunError(f"--out {self.path} is a file; give a folder.")
        held = (
            sorted(p.name for p in self.path.iterdir() if not p.name.startswith(".tmp-")) if self.path.exists() else []
        )
        foreign = [name for name in held if name not in own]
        if foreign:
            raise RunError(
                f"--out {self.path} holds other things (e.g. {foreign[0]!r}) and is not a run directory; "
                "give a new or an empty folder."
            )

    def refuse_other_run(self, record: dict[str, Any], settings: MineSettings, identity: dict[str, Any]) -> None:
        """Raises RunError where the record is of a run of other settings or inputs."""
        asked = {**settings.model_dump(mode="json"), **identity}
        found = {**record["config"], **record["inputs"]}
        its = {name: recorded(MineSettings, found, name) for name in asked}
        no_matter = NO_MATTER_IN_MINING | ({"model"} if self._has_model_of(settings, asked, its) else set())
        differing = [name for name in asked if name not in no_matter and asked[name] != its[name]]
        if differing:
            name = differing[0]
            raise RunError(
                f"{self.path} belongs to another run: its {name} is {_in_words(its[name])}, "
                f"this command's is {_in_words(asked[name])}. Give another --out."
            )

    def _has_model_of(self, settings: MineSettings, asked: dict[str, Any], its: dict[str, Any]) -> bool:
        """Whether the run was begun with the same model, wherever it lay then."""
        if not asked.get("model_sha256") or asked["model_sha256"] != its["model_sha256"]:
            return False
        if settings.model.startswith(PRETRAINED) or not (self.model / CARD_FILE).is_file():
            return True
        return read_card(self.model).is_like(read_card(Path(settings.model)))


def _locked(handle: int, tries: int) -> bool:
    for left in reversed(range(tries)):
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            time.sleep(_LOCK_PAUSE if left else 0)
        else:
            return True
    return False


def _in_words(value: Any) -> str:
    return "not set" if value is None else repr(value)


def versions() -> dict[str, str]:
    """Of boxmine, Python and what computes the boxes."""
    found = {"boxmine": __version__, "python": platform.python_version()}
    for package in _VERSIONS:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def now() -> str:
    """The time in UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def cores() -> int:
    """Processor cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
