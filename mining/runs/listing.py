"""The runs in a folder, each in one line."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mining.errors import BoxmineError, RunError
from mining.runs.run import Run
from mining.runs.status import read_status
from mining.storage.integrity import RUN_FILE


@dataclass(frozen=True)
class ListedRun:
    """A run in a list.

    name: relative to the folder. state: as `read_status` has it, or damaged. images: in all; done: of them. boxes: None
    until the run is finished. started, finished: when. reason: why it ended as it did, where there is more to say.
    """

    name: str
    state: str
    images: int | None = None
    done: int | None = None
    boxes: int | None = None
    quarantined: int | None = None
    started: str | None = None
    finished: str | None = None
    reason: str | None = None


def runs_in(folder: Path) -> list[ListedRun]:
    """The runs in a folder and in the folders below it, by when they were started; damaged ones last.

    Raises RunError where there is none.
    """
    if not folder.is_dir():
        raise RunError(f"{folder} is neither a run directory, nor a label store, nor a folder of runs.")
    found = [_listed(path, str(path.relative_to(folder))) for path in _run_folders(folder)]
    if not found:
        raise RunError(f"{folder} holds no run: neither it nor a folder up to two levels below it has a {RUN_FILE}.")
    return sorted(found, key=lambda run: (run.started is None, run.started or "", run.name))


def _run_folders(folder: Path) -> Iterator[Path]:
    """Not those in hidden folders, which belong to jobs, and not what lies in a run: that is the run's own."""
    for path in sorted(folder.glob("[!.]*/")):
        if (path / RUN_FILE).is_file():
            yield path
        else:
            yield from (below for below in sorted(path.glob("[!.]*/")) if (below / RUN_FILE).is_file())


def _listed(path: Path, name: str) -> ListedRun:
    try:
        record = Run(path).record
        found = read_status(path)
    except (BoxmineError, OSError, ValueError, KeyError, TypeError) as error:
        return ListedRun(name, "damaged", reason=" ".join(str(error).split()) or type(error).__name__)
    return ListedRun(
        name, found.state, found.images, found.done, record.get("counts", {}).get("boxes"), found.quarantined,
        record.get("started"), record.get("finished"), _reason(found.state, record, found.quarantined),
    )  # fmt: skip


def _reason(state: str, record: dict[str, Any], quarantined: int) -> str | None:
    if state == "killed":
        return "its process was killed; run the same command again to resume"
    if state == "stopped":
        return str(record.get("failed") or "stopped; run the same command again to resume")
    return f"{quarantined} image{'s' if quarantined > 1 else ''} could not be used" if quarantined else None
