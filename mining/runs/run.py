"""A run directory: immutable once finished, resumable until then, explaining itself.

run.json, corpus.parquet, model/, parts/part-*.parquet, quarantine.parquet,
annotations.parquet, curves.parquet, rankings.parquet, annotations.json, scores.json, report/index.html
"""

import re
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Literal

from mining.config import MineSettings, parse, setting_or_default
from mining.corpus.schema import CORPUS_FILE
from mining.errors import InputError, RunError
from mining.models.card import CARD_FILE, PRETRAINED, read_card
from mining.runs.record import FORMAT, RUN_FILE, read_run_record
from mining.storage.files import write_json
from mining.storage.integrity import check_file
from mining.storage.locks import is_locked, lock_folder
from mining.storage.ownership import (
    MARK_FILE,
    delete_files,
    delete_temporaries,
    find_temporaries,
    foreign_entries,
    mark_folder,
    unmark_folder,
)
from mining.storage.parquet import open_parquet
from mining.storage.provenance import package_versions, utc_now

ANNOTATIONS_FILE = "annotations.parquet"
CURVES_FILE = "curves.parquet"
RANKINGS_FILE = "rankings.parquet"
COCO_FILE = "annotations.json"
QUARANTINE_FILE = "quarantine.parquet"
SCORES_FILE = "scores.json"
REPORT_FILE = "report/index.html"
LOG_FILE = "log.jsonl"
CHARTS = ("threshold", "iou", "size", "precision")  # of a report, as SVG and PNG
DIGESTED_FILES = (
    CORPUS_FILE, f"model/{CARD_FILE}", ANNOTATIONS_FILE, CURVES_FILE, RANKINGS_FILE, QUARANTINE_FILE, COCO_FILE,
)  # fmt: skip
HOW_IT_IS_RUN = {
    "workers", "device", "retries", "runner", "runner_workers", "cpus_per_worker", "gpus_per_worker", "ray_address",
}  # fmt: skip
NO_MATTER_IN_MINING = HOW_IT_IS_RUN | {"out", "curves", "min_present"}  # settings that do not change a box

_FOLDERS = ("parts", "model", "report", "report/charts")
_PART = re.compile(r"(part|curves)-\d{5,}\.parquet")
_MODEL_FILES = ("model.json", "weights.safetensors")  # what mining puts into the run's model folder

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
            self.refuse_foreign_folder(Path(settings.model))
            brings_model = not self.model.exists()
            token = mark_folder(self.path, "run")
            self.sweep()
            self.update(
                format=FORMAT, name=self.path.name, state="running", config=settings.model_dump(mode="json"),
                inputs=identity, versions=package_versions(), started=utc_now(), counts={}, seconds={}, token=token,
                brings_model=brings_model, **{PART_ORIGINS: True},
            )  # fmt: skip
            unmark_folder(self.path)  # the record has the token
            return "new"
        record = self.read()
        self.refuse_other_run(record, settings, identity)
        if record["state"] == "finished":
            return "finished"
        token = mark_folder(self.path, "run")  # runs of earlier versions have none yet
        self.sweep()
        how = settings.model_dump(mode="json", include=HOW_IT_IS_RUN)  # another machine may lack the device
        config, resumed = {**record["config"], **how}, [*record.get("resumed", []), utc_now()]
        self.update(token=token, state="running", failed=None, config=config, resumed=resumed)
        unmark_folder(self.path)
        return "resumed"

    def first_reasons(self, count: int = 3) -> list[str]:
        """Why the first images of the quarantine could not be used."""
        with open_parquet(self.quarantine) as file:
            table = file.read(columns=["reason"])
        return [str(reason) for reason in table.slice(0, count)["reason"].to_pylist()]

    def discard_start(self, *, with_model: bool) -> None:
        """Take back a start that came to nothing, so that the corrected command may use the same folder.

        with_model: also the model, where this run has brought it into the folder.
        """
        if with_model and self.read().get("brings_model"):
            delete_files(self.model, _MODEL_FILES)
        self.sweep()
        for name in (LOG_FILE, RUN_FILE):
            (self.path / name).unlink(missing_ok=True)
        unmark_folder(self.path)

    def discard(self) -> None:
        """Delete the run, so that another one may be mined into its folder.

        Raises RunError, and deletes nothing, where the folder holds files that no run has.
        """
        own = self._own_files()
        foreign = next((path for path in sorted(self.path.rglob("*")) if path not in own and not path.is_dir()), None)
        if foreign is not None:
            raise RunError(f"{foreign} is no file of the run that is to be mined again; move it away.")
        for folder in (self.model, self.parts, *self._report_folders(), self.path):
            names = {path.name for path in own if path.parent == folder} - {MARK_FILE, RUN_FILE}
            delete_files(folder, names, with_folder=folder != self.path)
        (self.path / RUN_FILE).unlink(missing_ok=True)  # last: what is left of half a deletion is a run still
        unmark_folder(self.path)

    def _own_files(self) -> set[Path]:
        parts = {path for path in self.parts.glob("*.parquet") if _PART.fullmatch(path.name)}
        model = {self.model / name for name in _MODEL_FILES} if self.read().get("brings_model") else set()
        charts, pages = self._report_folders()
        report = {pages / "index.html", *(charts / f"{name}.{kind}" for name in CHARTS for kind in ("svg", "png"))}
        tables = {self.corpus, self.annotations, self.curves, self.rankings, self.coco, self.quarantine, self.scores}
        records = {self.path / name for name in (RUN_FILE, LOG_FILE, MARK_FILE)}
        return {*parts, *model, *report, *tables, *records, *self.temporaries()}

    def _report_folders(self) -> tuple[Path, Path]:
        return self.report.parent / "charts", self.report.parent

    def temporaries(self) -> list[Path]:
        """Temporary files that carry this run's token."""
        return find_temporaries(self.path, _FOLDERS)

    def sweep_records(self) -> None:
        """Delete records that killed processes left half written, of a run that others may be reading or scoring."""
        for path in find_temporaries(self.path):
            if path.name.endswith(f"-{RUN_FILE}"):
                path.unlink(missing_ok=True)

    def sweep(self) -> int:
        """Delete what killed processes of this run left half written; gives the number of files."""
        return delete_temporaries(self.path, _FOLDERS)

    def update(self, **values: Any) -> None:
        """Write `values` over the record, whole or not at all."""
        record = self.read() if self.has_started() else {}
        write_json(self.path / RUN_FILE, {**record, **values})

    def lock(self) -> AbstractContextManager[None]:
        """Hold the run for this process; raises RunError while another one works on it."""
        return lock_folder(self.path)

    def is_worked_on(self) -> bool:
        """Whether a process holds it."""
        return is_locked(self.path)

    def refuse_foreign_folder(self, model: Path | None = None) -> None:
        """Raise RunError where the folder holds anything but a run of ours, or the model that is mined with.

        model: the folder of that model; it may be the run's own `model`.
        """
        if self.path.is_file():
            raise RunError(f"--out {self.path} is a file; give a folder.")
        is_own_model = model is not None and model.resolve() == self.model.resolve()
        foreign = [] if self.has_started() else foreign_entries(self.path, ("model",) if is_own_model else ())
        if foreign:
            raise RunError(
                f"--out {self.path} holds other things (e.g. {foreign[0]!r}) and is not a run directory; "
                "give a new or an empty folder. Nothing in it was touched."
            )

    def refuse_other_run(self, record: dict[str, Any], settings: MineSettings, identity: dict[str, Any]) -> None:
        """Raises RunError where the record is of a run of other settings or inputs."""
        asked = {**settings.model_dump(mode="json"), **identity}
        found = {**record["config"], **record["inputs"]}
        its = {name: setting_or_default(MineSettings, found, name) for name in asked}
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


def _in_words(value: Any) -> str:
    return "not set" if value is None else repr(value)
