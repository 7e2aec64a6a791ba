"""One process at a time in a folder."""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from mining.errors import RunError
from mining.storage.files import storage_errors

_TRIES, _PAUSE = 4, 0.1  # seconds: another process may just be checking whether it is locked


@contextmanager
def lock_folder(path: Path) -> Iterator[None]:
    """Lock the folder for this process, and create it where there is none.

    Folders that were created for it are removed at the end where nothing was written to them.
    Raises RunError while another process has it, StorageError where it cannot be created.
    """
    with storage_errors(path):
        created = [one for one in (path, *path.parents) if not one.exists()]
    handle = _opened_and_locked(path)
    try:
        yield
    finally:
        with suppress(OSError):  # it is not empty
            for one in created:
                one.rmdir()
        os.close(handle)


def is_locked(path: Path) -> bool:
    """Whether a process has the folder (or file) locked."""
    handle = os.open(path, os.O_RDONLY)
    try:
        return not try_lock(handle)
    finally:
        os.close(handle)


def try_lock(handle: int, tries: int = 1) -> bool:
    """Lock an open file or folder for this process, if no other has it."""
    for left in reversed(range(tries)):
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            time.sleep(_PAUSE if left else 0)
        else:
            return True
    return False


def _opened_and_locked(path: Path) -> int:
    while True:
        with storage_errors(path):
            path.mkdir(parents=True, exist_ok=True)
            handle = os.open(path, os.O_RDONLY)  # the folder itself, so that no file is added
        if not try_lock(handle, _TRIES):
            os.close(handle)
            raise RunError(f"Another process is working on {path}; wait for it, or give another --out.")
        if _is_still_there(path, handle):
            return handle
        os.close(handle)  # another process has just removed the empty folder


def _is_still_there(path: Path, handle: int) -> bool:
    try:
        return os.path.samestat(os.stat(path), os.fstat(handle))
    except FileNotFoundError:
        return False
