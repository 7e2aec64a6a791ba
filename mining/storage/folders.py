"""Atomic folders."""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from secrets import token_hex

from mining.errors import InputError
from mining.storage.files import storage_errors
from mining.storage.locks import is_locked, try_lock
from mining.storage.ownership import TEMPORARY, delete_own, mark_folder, short_name, token_of


def refuse_occupied_folder(out: Path) -> None:
    """Raise InputError unless `out` is a new or an empty folder."""
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise InputError(f"{out} exists and is not an empty folder. Delete it, or give another folder.")


@contextmanager
def atomic_folder(out: Path) -> Iterator[Path]:
    """Write a folder atomically: it appears under its name complete, or not at all.

    The temporary folder lies beside `out` in a folder with an ownership mark, which stays locked while it is written.
    The mark identifies what a killed process left, the lock what another process is still writing; both work across
    containers that share the disk.

    Args:
        out: The folder to create.

    Yields:
        A temporary folder to write to. It is renamed to `out` when the block ends without an error, else deleted.

    Raises:
        InputError: Another process is writing `out`, or wrote it in the meantime.
        StorageError: The disk is full, read-only or not writable.
    """
    with storage_errors(out):
        out.parent.mkdir(parents=True, exist_ok=True)
        _delete_leftovers(out)
        wrapper, handle = _create_marked_folder(out)
        temporary = wrapper / "folder"
        try:
            temporary.mkdir()
            yield temporary
            _rename(temporary, out)
        finally:
            delete_own(wrapper)
            os.close(handle)


def _create_marked_folder(out: Path) -> tuple[Path, int]:
    """Create a locked folder beside `out` whose name and mark share a token; also gives the lock's handle."""
    token = token_hex(8)
    wrapper = out.with_name(f"{TEMPORARY}{token}-{short_name(out)}")
    wrapper.mkdir()
    handle = os.open(wrapper, os.O_RDONLY)
    try_lock(handle)
    mark_folder(wrapper, "half-written folder", token)  # after locking: other processes consider marked folders only
    return wrapper, handle


def _delete_leftovers(out: Path) -> None:
    """Delete what killed processes left of the same folder. Raises InputError while a process is writing it."""
    name = re.compile(rf"{re.escape(TEMPORARY)}([0-9a-f]{{16}})-{re.escape(short_name(out))}")
    for path in sorted(out.parent.iterdir()):
        match = name.fullmatch(path.name)
        if match is None or token_of(path) != match[1]:
            continue
        if is_locked(path):
            raise InputError(f"Another process is writing {out}. Wait until it has finished, or give another --out.")
        delete_own(path)


def _rename(temporary: Path, out: Path) -> None:
    try:
        temporary.rename(out)
    except OSError:
        if out.is_dir() and any(out.iterdir()):
            raise InputError(
                f"{out} was written by another process in the meantime and is left unchanged. Give another --out."
            ) from None
        raise
