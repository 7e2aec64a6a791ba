"""A run directory: immutable once finished, resumable until then, explaining itself.

run.json, corpus.parquet, model/, parts/part-*.parquet, quarantine.parquet,
annotations.parquet, curves.parquet, rankings.parquet, annotations.json, scores.json, quality.parquet,
calibration.json, verdicts.sqlite, report/index.html
"""

import os
import re
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Literal, cast

from mining.config import ExecutionOptions, MineSettings, parse, parse_record, setting_or_default
from mining.corpus.image_root import is_inside
from mining.corpus.schema import CORPUS_FILE
from mining.errors import InputError, RunError
from mining.localizers.option_values import recorded_options
from mining.models.card import CARD_FILE, INT8_FILE, PRETRAINED, ModelCard, read_card
from mining.models.class_selection import select_classes
from mining.runs.record import FORMAT, RUN_FILE, read_run_record
from mining.storage.files import sha256_of, write_json
from mining.storage.integrity import PARTS, check_file, digest_matches
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
from mining.storage.untrusted_files import read_json

if TYPE_CHECKING:  # importing pyarrow takes long, and reading a record needs none of it
    import pyarrow as pa

    from mining.runs.rows import ImageRow

MODEL_FOLDER = "model"
ANNOTATIONS_FILE = "annotations.parquet"
CURVES_FILE = "curves.parquet"
RANKINGS_FILE = "rankings.parquet"
COCO_FILE = "annotations.json"
QUARANTINE_FILE = "quarantine.parquet"
SCORES_FILE = "scores.json"
QUALITY_FILE = "quality.parquet"
CALIBRATION_FILE = "calibration.json"
REPORT_FILE = "report/index.html"
LOG_FILE = "log.jsonl"
CHARTS = ("threshold", "iou", "size", "precision")  # of a report, as SVG and PNG
TAUGHT_IMAGES = "taught_images"  # in the record: SHA-256 of images whose true boxes its boxes were learned from
DIGESTED_FILES = (
    CORPUS_FILE, f"model/{CARD_FILE}", f"model/{INT8_FILE}", ANNOTATIONS_FILE, CURVES_FILE, RANKINGS_FILE,
    QUARANTINE_FILE, COCO_FILE,
)  # fmt: skip
_FOLDERS = ("parts", "model", "report", "report/charts")
_PART = re.compile(r"(part|curves)-\d{5,}\.parquet")
_MODEL_FILES = ("model.json", "weights.safetensors")  # what mining puts into the run's model folder

PART_ORIGINS = "part_origins"  # key of run.json: its parts say what they were made from

State = Literal["running", "stopped", "finished"]
_FileIdentity = tuple[int, int, int, int]  # of run.json: inode, size, times


class Run:
    """A run directory: its file names, its record, its settings and its tables.

    Creating one touches no file; `Run.open` also checks that the folder holds a run. The record is parsed once, and
    again only after run.json changed. A Run can be pickled and sent to a worker.

    Attributes:
        path: The run directory.
        corpus: corpus.parquet, one row per image.
        model: Folder of the model that the run was mined with.
        parts: Folder of the part files, one per shard.
        annotations: annotations.parquet, one row per box.
        curves: curves.parquet, one row per image and class: the box at each threshold.
        rankings: rankings.parquet, the most probable classes per image.
        coco: annotations.json, the boxes in COCO format.
        quarantine: quarantine.parquet, the images that could not be used.
        scores: scores.json, if the run was scored.
        quality: quality.parquet, signals and calibrated probabilities per box, if they were computed.
        calibration: calibration.json, if the boxes were calibrated.
        report: report/index.html, if it was written.

    Example:
        >>> run = Run.open(Path("runs/first"))
        >>> run.state, run.settings.merge
        ('finished', 'nms')
        >>> run.read_annotations(["category", "score"]).column_names
        ['category', 'score']
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.corpus = path / CORPUS_FILE
        self.model = path / MODEL_FOLDER
        self.parts = path / PARTS
        self.annotations = path / ANNOTATIONS_FILE
        self.curves = path / CURVES_FILE
        self.rankings = path / RANKINGS_FILE
        self.coco = path / COCO_FILE
        self.quarantine = path / QUARANTINE_FILE
        self.scores = path / SCORES_FILE
        self.quality = path / QUALITY_FILE
        self.calibration = path / CALIBRATION_FILE
        self.report = path / REPORT_FILE
        self._record: tuple[_FileIdentity, dict[str, Any]] | None = None
        self._settings: tuple[_FileIdentity, MineSettings] | None = None

    def __repr__(self) -> str:
        return f"Run({str(self.path)!r})"

    @classmethod
    def open(cls, path: Path, *, finished: bool = False) -> "Run":
        """Open an existing run directory.

        Args:
            path: The run directory.
            finished: Also require that the run is finished.

        Raises:
            RunError: There is no run, its record is damaged, or it is not finished.
        """
        run = cls(path)
        _ = run.record
        if finished:
            run.require_finished()
        return run

    # --- record ------------------------------------------------------------------------------------------------------

    @property
    def record(self) -> dict[str, Any]:
        """The content of run.json; change it by `update` alone. Raises RunError if it is missing or damaged."""
        identity = self._record_identity()
        if self._record is None or identity is None or self._record[0] != identity:
            record = read_run_record(self.path)
            if identity is None:
                return record
            self._record = identity, record
        return self._record[1]

    @property
    def settings(self) -> MineSettings:
        """The settings of the run. Raises RunError if this version cannot use them."""
        record, identity = self.record, self._record_identity()
        if self._settings is not None and self._settings[0] == identity:
            return self._settings[1]
        try:
            settings = parse_record(MineSettings, record["config"])
        except InputError as error:
            raise RunError(f"{self.path / RUN_FILE} holds settings that cannot be used: {error}") from None
        if identity is not None:
            self._settings = identity, settings
        return settings

    @property
    def settings_used(self) -> MineSettings:
        """The settings, with the defaults of localizer and refinement that the run began with instead of None.

        A later version may have other defaults. Raises RunError if this version cannot use the settings.
        """
        settings, used = self.settings, self.record.get("used") or {}
        open_ones = {
            name: used[name]
            for name, value in dict(settings).items()
            if value is None and name != "localizer" and used.get(name) is not None
        }
        if settings.localizer is not None and "options" in used:
            open_ones["options"] = recorded_options(settings.localizer, used["options"])
        return parse(MineSettings, {**dict(settings), **open_ones})

    @property
    def state(self) -> State:
        """The state in the record; a killed process leaves `running` (see mining.runs.status)."""
        return cast(State, self.record["state"])

    @property
    def name(self) -> str:
        """The name that the run was started under, which is that of its folder unless it was moved."""
        return str(self.record["name"])

    @property
    def image_root(self) -> Path:
        """The folder of the run's images, which may not be there any more."""
        return Path(str(self.record["config"].get("images", "")))

    @property
    def card(self) -> ModelCard:
        """The record of the model that the run was mined with. Raises ModelError, and DamagedFileError."""
        check_file(self.model / CARD_FILE)
        return read_card(self.model)

    @property
    def classes(self) -> tuple[tuple[int, str], ...]:
        """Ids and names of the model's classes, in the order of its logits."""
        return tuple((int(one["id"]), str(one["name"])) for one in self.card.classes)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Run) and self.path == other.path

    def __hash__(self) -> int:
        return hash(self.path)

    def has_started(self) -> bool:
        """Return whether the folder has a record."""
        return (self.path / RUN_FILE).exists()

    def is_finished(self) -> bool:
        """Return whether everything has been written."""
        return self.state == "finished"

    def require_finished(self) -> dict[str, Any]:
        """Return the record of a finished run.

        Raises:
            RunError: The run is not finished.
            DamagedFileError: The model's record is damaged.
        """
        record = self.record
        if record["state"] != "finished":
            raise RunError(
                f"The run {self.path} is not finished (state: {record['state']}). Run its `boxmine mine` or "
                "`boxmine run` command again to resume it."
            )
        check_file(self.model / CARD_FILE)
        return record

    def update(self, **values: Any) -> None:
        """Write `values` over the record, atomically."""
        record = self.record if self.has_started() else {}
        write_json(self.path / RUN_FILE, {**record, **values})
        self._record = self._settings = None

    def _record_identity(self) -> "_FileIdentity | None":
        try:
            found = (self.path / RUN_FILE).stat()
        except OSError:
            return None
        return found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns

    # --- tables ------------------------------------------------------------------------------------------------------

    def read_annotations(self, columns: Sequence[str] | None = None) -> "pa.Table":
        """Read the boxes, one row per box (see mining.runs.schema); the file's digest is checked."""
        return read_table(self.annotations, columns)

    def read_corpus(self, columns: Sequence[str] | None = None) -> "pa.Table":
        """Read the corpus table, one row per image, with the state that mining gave it."""
        return read_table(self.corpus, columns)

    def read_quarantine(self, columns: Sequence[str] | None = None) -> "pa.Table":
        """Read the images that could not be used, each with the reason."""
        return read_table(self.quarantine, columns)

    def read_curves(self, columns: Sequence[str] | None = None) -> "pa.Table":
        """Read the boxes at every threshold. Raises RunError for a run that was mined without curves."""
        return read_table(self.curves, columns)

    def read_rankings(self, columns: Sequence[str] | None = None) -> "pa.Table":
        """Read the most probable classes, one row per image."""
        return read_table(self.rankings, columns)

    def read_scores(self) -> dict[str, Any] | None:
        """Return the content of scores.json, None if the run was not scored. Raises RunError if it is damaged."""
        if not self.scores.is_file():
            return None
        try:
            scores = dict(read_json(self.scores))
            if not isinstance(scores["truth"]["file"], str) or not isinstance(scores["truth"]["sha256"], str):
                raise ValueError("it names no ground truth")
            if not digest_matches(scores):
                raise ValueError("its content is not what was written")
            return scores
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise RunError(f"{self.scores} is damaged ({error}); run the `boxmine score` command again.") from None

    def first_reasons(self, count: int = 3) -> list[str]:
        """Return why the first `count` quarantined images could not be used."""
        return [str(reason) for reason in self.read_quarantine(["reason"]).slice(0, count)["reason"].to_pylist()]

    # --- images ------------------------------------------------------------------------------------------------------

    def source_of(self, image: "ImageRow") -> Path:
        """Return the file of an image.

        Raises:
            RunError: Its name leads out of the image root, or the file changed since the run.
        """
        parts = PurePosixPath(image.file_name)
        source = self.image_root / parts
        # exports use the same name below their own folder
        leads_out = parts.is_absolute() or ".." in parts.parts
        if leads_out or not is_inside(os.path.realpath(source), os.path.realpath(self.image_root)):
            raise RunError(
                f"{self.corpus}: {image.file_name!r} leads out of the image root; such a file is not exported."
            )
        _refuse_replaced(source, image.content_hash)
        return source

    # --- parts -------------------------------------------------------------------------------------------------------

    def part(self, shard: int) -> Path:
        """Return the path of a shard's boxes."""
        return self.parts / f"part-{shard:05d}.parquet"

    def curve_part(self, shard: int) -> Path:
        """Return the path of a shard's curves."""
        return self.parts / f"curves-{shard:05d}.parquet"

    def files_of(self, shard: int, *, curves: bool) -> tuple[Path, Path | None]:
        """Return both paths, None for the curves if they are not wanted."""
        return self.part(shard), self.curve_part(shard) if curves else None

    # --- life --------------------------------------------------------------------------------------------------------

    def begin(self, settings: MineSettings, identity: dict[str, Any]) -> Literal["new", "resumed", "finished"]:
        """Start the run in this folder, or resume the same run.

        Args:
            settings: Settings of the run.
            identity: Fingerprints of its inputs.

        Returns:
            What was found: a new run, one to resume, or a finished one.

        Raises:
            RunError: The folder holds another run or other files.
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
        record = self.record
        self.refuse_other_run(record, settings, identity)
        if record["state"] == "finished":
            return "finished"
        token = mark_folder(self.path, "run")  # runs of earlier versions have none yet
        self.sweep()
        execution = settings.model_dump(mode="json", include=set(ExecutionOptions.model_fields))
        config, resumed = {**record["config"], **execution}, [*record.get("resumed", []), utc_now()]
        self.update(token=token, state="running", failed=None, config=config, resumed=resumed)
        unmark_folder(self.path)
        return "resumed"

    def discard_start(self, *, with_model: bool) -> None:
        """Take back a start that came to nothing, so that the corrected command may use the same folder.

        with_model: also the model, where this run has brought it into the folder.
        """
        delete_files(self.model, (INT8_FILE,))
        if with_model and self.record.get("brings_model"):
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
        model = {self.model / name for name in _MODEL_FILES} if self.record.get("brings_model") else set()
        charts, pages = self._report_folders()
        report = {pages / "index.html", *(charts / f"{name}.{kind}" for name in CHARTS for kind in ("svg", "png"))}
        tables = {self.corpus, self.annotations, self.curves, self.rankings, self.coco, self.quarantine, self.scores}
        tables |= {self.quality, self.calibration}
        records = {self.path / name for name in (RUN_FILE, LOG_FILE, MARK_FILE)}
        return {*parts, *model, self.model / INT8_FILE, *report, *tables, *records, *self.temporaries()}

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

    def lock(self) -> AbstractContextManager[None]:
        """Hold the run for this process; raises RunError while another one works on it."""
        return lock_folder(self.path)

    def is_locked(self) -> bool:
        """Return whether a process is working on the run."""
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
        """Raise RunError if the record is that of a run of other settings or inputs."""
        asked = {**settings.identity(), **identity}
        recorded = {**record["config"], **record["inputs"]}
        recorded = {name: setting_or_default(MineSettings, recorded, name) for name in asked}
        if self._has_model_of(settings, asked, recorded):  # wherever it lies now
            del asked["model"]
        for name, value in asked.items():
            if value != recorded[name]:
                raise RunError(
                    f"{self.path} belongs to another run: its {name} is {_format_setting(recorded[name])}, "
                    f"this command's is {_format_setting(value)}. Give another --out."
                )

    def _has_model_of(self, settings: MineSettings, asked: dict[str, Any], recorded: dict[str, Any]) -> bool:
        """Return whether the run was begun with the same model, wherever it lay then."""
        if not asked.get("model_sha256") or asked["model_sha256"] != recorded["model_sha256"]:
            return False
        if settings.model.startswith(PRETRAINED) or not (self.model / CARD_FILE).is_file():
            return True
        return read_card(self.model).is_like(select_classes(read_card(Path(settings.model)), settings))


def read_table(path: Path, columns: Sequence[str] | None = None) -> "pa.Table":
    """Read a table of a run, after its digest was checked.

    Raises:
        RunError: The file is missing, or lacks a column.
        DamagedFileError: The file is not as it was written.
    """
    with open_parquet(path) as file:
        missing = [name for name in columns or () if name not in file.schema_arrow.names]
        if missing:
            raise RunError(
                f"{path} has no column {', '.join(missing)}. Mine the run again with this version of boxmine."
            )
        return file.read(columns=None if columns is None else list(columns))


def _refuse_replaced(source: Path, content_hash: str | None) -> None:
    """Raise RunError if the file is not the one that was mined; a missing file is reported by its reader."""
    if content_hash is None or not source.is_file():
        return
    try:
        digest = sha256_of(source)
    except OSError:
        return
    if digest != content_hash:
        raise RunError(
            f"{source} changed since the run (its SHA-256 differs), so the run's boxes do not belong to this image. "
            "Restore the old file, or mine again."
        )


def _format_setting(value: Any) -> str:
    return "not set" if value is None else repr(value)
