"""Locks that let one process at a time work in a folder."""

import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from mining.errors import RunError
from mining.storage.files import storage_errors

_TRIES, _PAUSE_SECONDS = 4, 0.1  # seconds; another process may hold the lock for a moment, only to check it


@contextmanager
def lock_folder(path: Path) -> Iterator[None]:
    """Lock a folder for this process; it is created if missing.

    Folders that were created for this are removed at the end if they are still empty.

    Raises:
        RunError: Another process holds the lock.
        StorageError: The folder cannot be created.
    """
    with storage_errors(path):
        created = [folder for folder in (path, *path.parents) if not folder.exists()]
    handle = _open_and_lock(path)
    try:
        yield
    finally:
        with suppress(OSError):  # not empty
            for folder in created:
                folder.rmdir()
        os.close(handle)


@contextmanager
def share_path(path: Path, sweep: Callable[[], object]) -> Iterator[None]:
    """Write files at the same time as other processes that do so; what killed ones left is deleted before.

    Args:
        path: A file or folder that stands for what is written; its content does not matter.
        sweep: Deletes what killed processes left half written. Called if no other process shares the path.

    Raises:
        FileNotFoundError: There is no such path.
    """
    handle = os.open(path, os.O_RDONLY)
    try:
        if try_lock(handle):
            sweep()
        fcntl.flock(handle, fcntl.LOCK_SH)
        yield
    finally:
        os.close(handle)


def is_locked(path: Path) -> bool:
    """Whether a process holds the lock of a folder or file."""
    handle = os.open(path, os.O_RDONLY)
    try:
        return not try_lock(handle)
    finally:
        os.close(handle)


def try_lock(handle: int, tries: int = 1) -> bool:
    """Lock an open file or folder for this process; False where another process holds the lock."""
    for remaining in reversed(range(tries)):
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            time.sleep(_PAUSE_SECONDS if remaining else 0)
        else:
            return True
    return False


def _open_and_lock(path: Path) -> int:
    while True:
        with storage_errors(path):
            path.mkdir(parents=True, exist_ok=True)
            handle = os.open(path, os.O_RDONLY)  # the folder itself, so that no lock file is needed
        if not try_lock(handle, _TRIES):
            os.close(handle)
            raise RunError(f"Another process is working on {path}. Wait until it has finished, or give another --out.")
        if _is_same_folder(path, handle):
            return handle
        os.close(handle)  # another process removed the empty folder in between


def _is_same_folder(path: Path, handle: int) -> bool:
    try:
        return os.path.samestat(os.stat(path), os.fstat(handle))
    except FileNotFoundError:
        return False
