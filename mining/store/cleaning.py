"""What labelling jobs leave that nobody needs any more."""

import shutil
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from mining.errors import RunError
from mining.files import TEMPORARY
from mining.store.places import Places
from mining.store.settings import LabelSettings
from mining.store.table import LabelStore

ORPHAN_HOURS = 24  # data files that no version names may be of a job that is about to publish


@dataclass(frozen=True)
class Leftover:
    """Something to delete. size: bytes."""

    path: str
    why: str
    size: int


def clean(settings: LabelSettings, keep: int, *, dry_run: bool = False) -> list[Leftover]:
    """Delete what no version of the store is from; gives what that was.

    Runs that were stopped or staged and never published, but for the last `keep`; what killed writers left; data files
    in the store that no version names and that are older than a day. Runs that a version is from stay, and so does
    every version. The caller holds the job (`job.held`), so that no run of its is at work.
    """
    places = Places(settings)
    store = LabelStore(settings.store)
    version = store.latest()
    published = set(version.corpus(settings.name).get("published", []))
    runs = [run for run in places.run_directories() if run.path.name not in published]
    old = runs[: max(0, len(runs) - keep)]
    found = [Leftover(str(run.path), "never published", _size(run.path)) for run in old]
    found += [Leftover(str(path), "left by a killed process", _size(path)) for path in _temporary(places)]
    if not dry_run:
        for leftover in found:
            _delete(Path(leftover.path))
    found += [Leftover(name, "named by no version", 0) for name in store.vacuum(ORPHAN_HOURS, dry_run=dry_run)]
    return found


def _temporary(places: Places) -> Iterator[Path]:
    yield from places.work.glob(f"{TEMPORARY}*")
    for run in places.run_directories():
        with suppress(RunError):
            if not run.is_worked_on():
                yield from run.path.rglob(f"{TEMPORARY}*")
    half_made = [path for path in places.runs.glob(f"{places.name}-*-*") if path.is_dir() and not any(path.iterdir())]
    yield from (path for path in half_made if time.time() - path.stat().st_mtime > 3600)


def _size(path: Path) -> int:
    files = [path] if path.is_file() else path.rglob("*")
    return sum(file.stat().st_size for file in files if file.is_file())


def _delete(path: Path) -> None:
    if path.is_dir():
        # under another name first: a run that is half deleted is none
        gone = path.with_name(f"{TEMPORARY}gone-{path.name}")
        path.rename(gone)
        shutil.rmtree(gone)
    else:
        path.unlink(missing_ok=True)
