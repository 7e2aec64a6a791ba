"""Folders that are there whole or not at all."""

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


@contextmanager
def atomic_folder(out: Path) -> Iterator[Path]:
    """Give a temporary folder to write to; it becomes `out` when the block ends well, else it is deleted.

    It lies in a folder beside `out` that is marked, and locked as long as it is written to: what a killed process left
    is told by the one and what another process is writing by the other, also where processes of several containers
    share the disk. Raises InputError where another process writes the same folder, or has written it meanwhile.
    """
    with storage_errors(out):
        out.parent.mkdir(parents=True, exist_ok=True)
        _refuse_company_and_sweep(out)
        around, handle = _marked_folder_beside(out)
        temporary = around / "folder"
        try:
            temporary.mkdir()
            yield temporary
            _rename(temporary, out)
        finally:
            delete_own(around)
            os.close(handle)


def _marked_folder_beside(out: Path) -> tuple[Path, int]:
    """A new folder beside `out` whose name and mark have the same token, locked; and the lock's handle."""
    token = token_hex(8)
    around = out.with_name(f"{TEMPORARY}{token}-{short_name(out)}")
    around.mkdir()
    handle = os.open(around, os.O_RDONLY)
    try_lock(handle)
    mark_folder(around, "half-written folder", token)  # locked before it is marked: others look at marked ones only
    return around, handle


def _refuse_company_and_sweep(out: Path) -> None:
    """Delete what killed processes left that wrote the same folder. Raises InputError where one is at work."""
    name = re.compile(rf"{re.escape(TEMPORARY)}([0-9a-f]{{16}})-{re.escape(short_name(out))}")
    for path in sorted(out.parent.iterdir()):
        found = name.fullmatch(path.name)
        if found is None or token_of(path) != found[1]:
            continue
        if is_locked(path):
            raise InputError(f"Another process is writing {out}; wait for it, or give another --out.")
        delete_own(path)


def _rename(temporary: Path, out: Path) -> None:
    try:
        temporary.rename(out)
    except OSError:
        if out.is_dir() and any(out.iterdir()):
            raise InputError(
                f"{out} was written by another process meanwhile and is left as it is; give another --out."
            ) from None
        raise
