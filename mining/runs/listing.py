"""List the runs in a folder, one line each."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from mining.errors import BoxmineError, RunError
from mining.runs.run import Run
from mining.runs.status import read_status
from mining.storage.integrity import RUN_FILE


@dataclass(frozen=True)
class ListedRun:
    """A run in a list.

    Attributes:
        name: Path relative to the folder.
        state: As in `RunStatus`, or damaged.
        images: Images of the corpus.
        done: Images that are mined.
        boxes: Boxes of a finished run.
        quarantined: Images that could not be used.
        started: When it was started.
        finished: When it was finished.
        reason: Why it ended as it did, if there is more to say.
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
    """List the runs in a folder and up to two levels below it, by when they were started; damaged ones last.

    Raises:
        RunError: There is no such folder, or no run in it.
    """
    if not folder.is_dir():
        raise RunError(f"{folder} is neither a run directory, nor a label store, nor a folder of runs.")
    runs = [_list_run(path, str(path.relative_to(folder))) for path in _run_folders(folder)]
    if not runs:
        raise RunError(f"{folder} holds no run: neither it nor a folder up to two levels below it has a {RUN_FILE}.")
    return sorted(runs, key=lambda run: (run.started is None, run.started or "", run.name))


def _run_folders(folder: Path) -> Iterator[Path]:
    """Find run directories, but not in hidden folders, which belong to jobs, nor in a run."""
    for path in sorted(folder.glob("[!.]*/")):
        if (path / RUN_FILE).is_file():
            yield path
        else:
            yield from (below for below in sorted(path.glob("[!.]*/")) if (below / RUN_FILE).is_file())


def _list_run(path: Path, name: str) -> ListedRun:
    try:
        record, status = Run.open(path).record, read_status(path)
    except (BoxmineError, OSError, ValueError, KeyError, TypeError) as error:
        return ListedRun(name, "damaged", reason=" ".join(str(error).split()) or type(error).__name__)
    return ListedRun(
        name, status.state, status.images, status.done, record.get("counts", {}).get("boxes"), status.quarantined,
        record.get("started"), record.get("finished"), _reason(status.state, record.get("failed"), status.quarantined),
    )  # fmt: skip


def _reason(state: str, failed: str | None, quarantined: int) -> str | None:
    if state == "killed":
        return "its process was killed; run the same command again to resume"
    if state == "stopped":
        return failed or "stopped; run the same command again to resume"
    return f"{quarantined} image{'s' if quarantined > 1 else ''} could not be used" if quarantined else None
