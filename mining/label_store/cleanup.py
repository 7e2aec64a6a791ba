"""What labelling jobs leave that nobody needs any more."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from mining.errors import InputError
from mining.label_store.delta_table import LabelStore
from mining.label_store.layout import JobLayout, run_number
from mining.label_store.publications import is_unpublished
from mining.label_store.settings import LabelSettings
from mining.storage.integrity import RUN_FILE
from mining.storage.locks import is_locked
from mining.storage.ownership import delete_own, foreign_entries, temporary_path

ORPHAN_HOURS = 24  # data files that no version names may be of a job that is about to publish
_OLD_SECONDS = 3600


@dataclass(frozen=True)
class Leftover:
    """Something to delete. size: bytes."""

    path: str
    why: str
    size: int


@dataclass(frozen=True)
class Cleaned:
    """What was deleted, or would be; and sentences on what was left."""

    deleted: list[Leftover]
    notes: list[str]


def clean(settings: LabelSettings, keep: int, *, dry_run: bool = False, needs_store: bool = True) -> Cleaned:
    """Delete what no version of the store is from.

    Runs that were made for this store and were stopped or staged and never published, but for the last `keep`; what
    killed writers left; data files in the store that no version names and that are older than a day. Runs that a
    version of any store is from stay, and so does every version. The caller holds the job (`job.held`), so that no run
    of its is at work.
    Raises InputError where the store has no version of this corpus: which runs were published cannot be known then.
    needs_store: False deletes nothing instead.
    """
    places = JobLayout(settings)
    store = LabelStore(settings.store)
    version = store.latest()
    if not version.corpus(settings.name):
        if not needs_store:
            return Cleaned([], [])
        raise InputError(
            f"{settings.store} holds no labels of {settings.name!r}, so that it is not known which runs were "
            "published: nothing was deleted. Mount the store, or correct `store` in the recipe."
        )
    published = set(version.corpus(settings.name).get("published", []))
    others = [run for run in places.run_directories() if run.path.name not in published and not run.path.is_symlink()]
    runs = [run for run in others if is_unpublished(run.record, settings, version)]
    old = [run for run in runs[: max(0, len(runs) - keep)] if not run.is_locked()]
    found = [Leftover(str(run.path), "never published", _size(run.path)) for run in old]
    found += [Leftover(str(path), "left by a killed process", _size(path)) for path in _temporary(places)]
    if not dry_run:
        for leftover in found:
            _delete(Path(leftover.path), places)
        places.sweep()
    found += [Leftover(name, "named by no version", 0) for name in store.vacuum(ORPHAN_HOURS, dry_run=dry_run)]
    return Cleaned(found, _notes(len(others) - len(runs)))


def _notes(left: int) -> list[str]:
    if not left:
        return []
    return [
        f"{left} run{'s' if left > 1 else ''} that this store does not name stay: they were published in another store "
        "or made for one, or do not say for which."
    ]


def _temporary(places: JobLayout) -> Iterator[Path]:
    yield from places.temporaries()
    for run in places.run_directories():
        if not run.path.is_symlink() and not run.is_locked():
            yield from filter(_is_old, run.temporaries())  # a younger one may be of a report that is being written
    half_made = [path for path in places.runs.glob(f"{places.name}-*-*") if run_number(path.name, places.name)]
    yield from (path for path in half_made if _is_empty(path) and _is_old(path) and not is_locked(path))


def _is_empty(path: Path) -> bool:
    """Whether a folder holds nothing, or what a run that was just to begin has written."""
    return path.is_dir() and not path.is_symlink() and not (path / RUN_FILE).exists() and not foreign_entries(path)


def _is_old(path: Path) -> bool:
    return time.time() - path.lstat().st_mtime > _OLD_SECONDS


def _size(path: Path) -> int:
    files = [path] if path.is_file() else path.rglob("*")
    return sum(file.stat().st_size for file in files if file.is_file())


def _delete(path: Path, places: JobLayout) -> None:
    """Delete a run as a whole: it is moved to the job's folder first, where the next command finds what is left of it.

    A run that is half deleted is none.
    """
    if not path.is_dir():
        delete_own(path)
        return
    places.claim()
    gone = temporary_path(places.work / path.name)
    path.rename(gone)
    delete_own(gone)
