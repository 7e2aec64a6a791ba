"""run.json: the one reader of it, which every command uses."""

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from mining.errors import RunError
from mining.storage.integrity import RUN_FILE
from mining.storage.untrusted_files import read_json

__all__ = ["FORMAT", "RUN_FILE", "need_figures", "read_run_record"]

FORMAT = "boxmine-run/1"


class _Counts(BaseModel):
    images: int
    boxes: int
    classes: int
    states: dict[str, int]


class _Seconds(BaseModel):
    mining: float


class _Record(BaseModel):
    """What a record must hold, whatever else it holds."""

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

    @model_validator(mode="after")
    def _finished_has_figures(self) -> "_Record":
        if self.state == "finished" and self.counts:
            _Counts.model_validate(self.counts)
            _Seconds.model_validate(self.seconds)
        return self


def read_run_record(folder: Path) -> dict[str, Any]:
    """The content of a run directory's run.json.

    Raises RunError where there is none, where it is damaged, and where another version of boxmine wrote it.
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
    found = record.get("format") if isinstance(record, dict) else None
    if isinstance(found, str) and found.startswith("boxmine-run/") and found != FORMAT:
        raise RunError(
            f"{path} has the format {found:.40}, this version of boxmine reads {FORMAT}; use the version that wrote it."
        )
    try:
        if found != FORMAT:
            raise ValueError("it has no format of ours")
        _Record.model_validate(record)
    except ValidationError as error:
        fault = error.errors()[0]
        place = ".".join(map(str, fault["loc"])) or "counts"
        raise RunError(_damaged(path, f"{place}: {fault['msg']}")) from None
    except ValueError as error:
        raise RunError(_damaged(path, str(error))) from None
    defaults: dict[str, Any] = {"name": folder.name, "config": {}, "inputs": {}, "counts": {}, "seconds": {}}
    return {**defaults, **record}


def need_figures(record: dict[str, Any], folder: Path) -> None:
    """Raises RunError where the record of a finished run has no counts."""
    if not record["counts"]:
        raise RunError(_damaged(folder / RUN_FILE, "it has no counts"))


def _damaged(path: Path, why: str) -> str:
    why = " ".join(why.split()).rstrip(".")
    return (
        f"{path} cannot be read as a run's record ({why:.200}). Restore it from a backup, or mine again into a new "
        "folder."
    )
