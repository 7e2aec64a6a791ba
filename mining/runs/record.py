"""Read and validate run.json, the record of a run."""

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from mining.errors import RunError
from mining.storage.integrity import RUN_FILE
from mining.storage.untrusted_files import read_json

__all__ = ["FORMAT", "RUN_FILE", "read_run_record", "require_figures"]

FORMAT = "boxmine-run/1"


class _Counts(BaseModel):
    images: int
    boxes: int
    classes: int
    states: dict[str, int]


class _Seconds(BaseModel):
    mining: float


class _Record(BaseModel):
    """What every record holds; it may hold more."""

    model_config = ConfigDict(extra="allow")

    name: str = ""
    state: Literal["running", "stopped", "finished"]
    config: dict[str, Any] = {}
    inputs: dict[str, Any] = {}
    versions: dict[str, Any] = {}
    counts: dict[str, Any] = {}
    seconds: dict[str, Any] = {}
    resumed: list[str] = []
    timing: dict[str, Any] | None = None
    failed: str | None = None
    warnings: list[str] = []

    @model_validator(mode="after")
    def _finished_has_figures(self) -> "_Record":
        if self.state == "finished" and self.counts:
            _Counts.model_validate(self.counts)
            _Seconds.model_validate(self.seconds)
        return self


def read_run_record(folder: Path) -> dict[str, Any]:
    """Return the content of a run directory's run.json.

    Raises:
        RunError: There is none, it is damaged, or another version of boxmine wrote it.
    """
    path = folder / RUN_FILE
    try:
        record = read_json(path)
    except (FileNotFoundError, NotADirectoryError):
        raise RunError(
            f"{folder} is not a run directory: it has no {RUN_FILE}. Give the folder that `boxmine mine` or "
            "`boxmine run` wrote."
        ) from None
    except (OSError, ValueError) as error:
        raise RunError(_damaged(path, getattr(error, "strerror", None) or str(error))) from None
    version = record.get("format") if isinstance(record, dict) else None
    if isinstance(version, str) and version.startswith("boxmine-run/") and version != FORMAT:
        raise RunError(
            f"{path} has the format {version:.40}, expected {FORMAT}; use the version of boxmine that wrote it."
        )
    try:
        if version != FORMAT:
            raise ValueError("it does not have the format of a run's record")
        _Record.model_validate(record)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"])) or "counts"
        raise RunError(_damaged(path, f"{key}: {first['msg']}")) from None
    except ValueError as error:
        raise RunError(_damaged(path, str(error))) from None
    defaults: dict[str, Any] = {
        "name": folder.name,
        "config": {},
        "inputs": {},
        "counts": {},
        "seconds": {},
        "warnings": [],
    }
    return {**defaults, **record}


def require_figures(record: dict[str, Any], folder: Path) -> None:
    """Raise RunError if the record of a finished run has no counts."""
    if not record["counts"]:
        raise RunError(_damaged(folder / RUN_FILE, "it has no counts"))


def _damaged(path: Path, why: str) -> str:
    why = " ".join(why.split()).rstrip(".")
    return (
        f"{path} cannot be read as a run's record ({why:.200}). Restore it from a backup, or mine again into a new "
        "folder."
    )
