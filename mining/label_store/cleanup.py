"""Delete unpublished runs and orphaned files of a label store."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from mining.errors import InputError
from mining.label_store.delta_table import LabelStore, Version
from mining.label_store.layout import JobLayout, run_number
from mining.label_store.publications import is_unpublished
from mining.label_store.settings import LabelSettings
from mining.label_store.version_precision import has_verdicts
from mining.runs.run import Run
from mining.storage.integrity import RUN_FILE
from mining.storage.locks import is_locked
from mining.storage.ownership import delete_own, foreign_entries, temporary_path

ORPHAN_HOURS = 24  # younger files that no version lists may belong to a job that is about to publish
_TEMPORARY_FILE_AGE_S = 3600


@dataclass(frozen=True)
class Leftover:
    """Something to delete.

    Attributes:
        path: File or folder; below the store for its data files.
        why: Why it is not needed.
        size: Size in bytes; 0 for data files of a store.
    """

    path: str
    why: str
    size: int


@dataclass(frozen=True)
class Cleaned:
    """What was deleted, or would be deleted in a dry run; the notes say what was kept and why."""

    deleted: list[Leftover]
    notes: list[str]


def clean(settings: LabelSettings, keep: int, *, dry_run: bool = False, needs_store: bool = True) -> Cleaned:
    """Delete what no version of the store was published from.

    That is: runs that were made for this store and never published, except for the last `keep`; temporary files of
    processes that were killed; data files of the store that no version lists and that are older than a day. Published
    runs of any store are kept, and so are runs with verdicts of people and every version. The caller holds the lock of
    the job.

    Args:
        settings: The recipe.
        keep: Number of unpublished runs to keep.
        dry_run: Only say what would be deleted.
        needs_store: Raise an error if the store has no version of this corpus; otherwise delete nothing.

    Raises:
        InputError: The store has no version of this corpus, so that it is not known which runs were published.
    """
    layout = JobLayout(settings)
    store = LabelStore(settings.store)
    version = store.latest()
    if not version.corpus(settings.name):
        if not needs_store:
            return Cleaned([], [])
        raise InputError(
            f"{settings.store} holds no labels of {settings.name!r}, so it is not known which runs were published: "
            "nothing was deleted. Mount the store, or correct `store` in the recipe."
        )
    unlisted, unpublished = _unpublished_runs(settings, layout, version)
    old = [run for run in unpublished[: max(0, len(unpublished) - keep)] if not run.is_locked()]
    judged = [run for run in old if has_verdicts(run)]
    old = [run for run in old if run not in judged]
    leftovers = [Leftover(str(run.path), "never published", _size(run.path)) for run in old]
    leftovers += [Leftover(str(path), "left by a killed process", _size(path)) for path in _temporary_files(layout)]
    if not dry_run:
        for leftover in leftovers:
            _delete(Path(leftover.path), layout)
        layout.sweep()
    leftovers += [Leftover(name, "named by no version", 0) for name in store.vacuum(ORPHAN_HOURS, dry_run=dry_run)]
    return Cleaned(leftovers, [*_notes(len(unlisted) - len(unpublished)), *_notes_on_judged(judged)])


def _unpublished_runs(settings: LabelSettings, layout: JobLayout, version: Version) -> tuple[list[Run], list[Run]]:
    """Runs that the version does not list as published, and those of them that certainly never were."""
    published = set(version.corpus(settings.name).get("published", []))
    unlisted = [run for run in layout.run_directories() if run.path.name not in published and not run.path.is_symlink()]
    return unlisted, [run for run in unlisted if is_unpublished(run.record, settings, version)]


def _notes(kept: int) -> list[str]:
    if not kept:
        return []
    return [
        f"{kept} run{'s' if kept > 1 else ''} that this store does not list {'are' if kept > 1 else 'is'} kept: "
        "published in another store, made for another store, or made for a store that is not recorded."
    ]


def _notes_on_judged(runs: list[Run]) -> list[str]:
    names = ", ".join(run.path.name for run in runs)
    return [f"Kept, because boxes were drawn for people to judge: {names}."] if runs else []


def _temporary_files(layout: JobLayout) -> Iterator[Path]:
    yield from layout.temporaries()
    for run in layout.run_directories():
        if not run.path.is_symlink() and not run.is_locked():
            yield from filter(_is_old, run.temporaries())  # a younger one may belong to a report that is being written
    runs = [path for path in layout.runs.glob(f"{layout.name}-*-*") if run_number(path.name, layout.name)]
    yield from (path for path in runs if _is_empty(path) and _is_old(path) and not is_locked(path))


def _is_empty(path: Path) -> bool:
    """Whether a folder holds nothing, or only what a run writes before its record."""
    return path.is_dir() and not path.is_symlink() and not (path / RUN_FILE).exists() and not foreign_entries(path)


def _is_old(path: Path) -> bool:
    return time.time() - path.lstat().st_mtime > _TEMPORARY_FILE_AGE_S


def _size(path: Path) -> int:
    files = [path] if path.is_file() else path.rglob("*")
    return sum(file.stat().st_size for file in files if file.is_file())


def _delete(path: Path, layout: JobLayout) -> None:
    """Delete a file or a run; a run is moved to the job's folder first, so that no half-deleted run is left."""
    if not path.is_dir():
        delete_own(path)
        return
    layout.claim()
    trash = temporary_path(layout.work / path.name)
    path.rename(trash)
    delete_own(trash)
