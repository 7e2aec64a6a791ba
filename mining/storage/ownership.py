"""Mark the files and folders that boxmine owns, so that nothing else is ever deleted or replaced.

A folder that boxmine fills (an unfinished model, a generated corpus, an experiment, a job's work folder) holds a small
file `.boxmine` with a random token: its ownership mark. A run directory has the token in its record, run.json.
Temporary files below such a folder carry the token in their names. The next process therefore deletes what a killed
process left in this very folder, and nothing that merely has a similar name.
"""

import json
import os
import re
import shutil
from collections.abc import Collection, Iterator
from contextlib import suppress
from pathlib import Path
from secrets import token_hex

from mining.errors import InputError

TEMPORARY = ".tmp-"
MARK_FILE = ".boxmine"
FORMAT = "boxmine-mark/1"
_RECORDS = {MARK_FILE: FORMAT, "run.json": "boxmine-run/1"}  # the files that may hold a token, and their formats
_TOKEN = re.compile(r"[0-9a-f]{16}")
_MAX_LEVELS = 3  # the charts of a run lie in report/charts
_MAX_NAME_BYTES = 120  # file systems allow 255; a token is added


def token_of(folder: Path, kind: str | None = None) -> str | None:
    """Read the token from a folder's ownership mark or run record.

    Args:
        folder: The folder.
        kind: What the folder must be marked as, e.g. "run"; None accepts any kind.

    Returns:
        None for a folder that is not marked, or marked as another kind.
    """
    tokens = (_read_token(folder / name, form, kind) for name, form in _RECORDS.items())
    return next(filter(None, tokens), None)


def foreign_entries(folder: Path, own: Collection[str] = ()) -> list[str]:
    """List what boxmine does not own in a folder.

    Args:
        folder: The folder; may be missing.
        own: Names of files and folders to leave out of the list.

    Returns:
        Sorted names, without `own`, the ownership mark and temporary files that carry the folder's token.
    """
    token = token_of(folder)
    names = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
    return [
        name
        for name in names
        if name not in own
        and not (token is not None and name.startswith(f"{TEMPORARY}{token}-"))
        and not (name == MARK_FILE and _is_own_mark(folder / name))
    ]


def mark_folder(folder: Path, kind: str, new: str | None = None) -> str:
    """Mark a folder as owned by boxmine; it is created if missing.

    The caller has checked that the folder holds nothing foreign, and holds its lock.

    Args:
        folder: The folder.
        kind: What it is, e.g. "run".
        new: The token of a new mark; by default a random one.

    Returns:
        The folder's token, which is the earlier one where the folder was marked already.

    Raises:
        InputError: A file with the name of the mark exists that boxmine did not write.
    """
    token = token_of(folder)
    if token is not None:
        return token
    if (folder / MARK_FILE).exists() and not _is_own_mark(folder / MARK_FILE):
        raise InputError(f"{folder / MARK_FILE} was not written by boxmine. Move it away, or give another folder.")
    folder.mkdir(parents=True, exist_ok=True)
    token = new or token_hex(8)
    text = json.dumps({"format": FORMAT, "kind": kind, "token": token}) + "\n"
    handle = os.open(folder / MARK_FILE, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    try:
        os.write(handle, text.encode())  # in one call: a killed process leaves an empty mark or a complete one
        os.fsync(handle)
    finally:
        os.close(handle)
    return token


def unmark_folder(folder: Path) -> None:
    """Delete a folder's ownership mark, if boxmine wrote it."""
    if _is_own_mark(folder / MARK_FILE):
        (folder / MARK_FILE).unlink(missing_ok=True)


def temporary_path(path: Path) -> Path:
    """Choose a new temporary name beside `path`, with the token of the marked folder that it lies in."""
    token = next(filter(None, map(token_of, _folders_above(path))), None) or token_hex(8)
    return path.with_name(f"{TEMPORARY}{token}-{token_hex(4)}-{short_name(path)}")


def short_name(path: Path) -> str:
    """The end of a file's name, short enough to put a token in front of it."""
    return path.name.encode(errors="surrogateescape")[-_MAX_NAME_BYTES:].decode(errors="ignore")


def find_temporaries(folder: Path, below: Collection[str] = ()) -> list[Path]:
    """List the temporary files and folders that carry the token of a marked folder.

    Args:
        folder: The marked folder, which is searched itself.
        below: Names of its sub-folders to search too; others are not searched.
    """
    token = token_of(folder)
    if token is None:
        return []
    searched = [place for place in (folder, *(folder / name for name in below)) if _is_plain_folder(place)]
    return [path for place in searched for path in sorted(place.iterdir()) if _has_token(path, token)]


def delete_temporaries(folder: Path, below: Collection[str] = ()) -> int:
    """Delete what `find_temporaries` lists, and return their number. The caller holds the folder's lock."""
    temporaries = find_temporaries(folder, below)
    for path in temporaries:
        delete_own(path)
    return len(temporaries)


def delete_own(path: Path) -> None:
    """Delete a file or a folder that boxmine owns; of a symbolic link only the link."""
    if _is_plain_folder(path):
        for child in path.iterdir():  # the mark last, so that what a killed deletion leaves is still marked
            if _is_plain_folder(child):
                shutil.rmtree(child, ignore_errors=True)
            elif child.name != MARK_FILE:
                child.unlink(missing_ok=True)
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def delete_files(folder: Path, names: Collection[str], *, with_folder: bool = True) -> None:
    """Delete files that boxmine wrote to a folder.

    Args:
        folder: The folder; a symbolic link or a missing folder is left alone.
        names: Names of the files.
        with_folder: Delete the folder too, if nothing else is in it.
    """
    if not _is_plain_folder(folder):
        return
    for name in names:
        with suppress(IsADirectoryError, PermissionError):  # a folder of that name is not owned by boxmine
            (folder / name).unlink(missing_ok=True)
    with suppress(OSError):
        if with_folder:
            folder.rmdir()


def _has_token(path: Path, token: str) -> bool:
    return path.name.startswith(f"{TEMPORARY}{token}-")


def _is_plain_folder(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink()


def _is_own_mark(mark: Path) -> bool:
    # an empty file was left by a process that was killed while it wrote the mark
    if not mark.is_file() or mark.is_symlink():
        return False
    return mark.stat().st_size == 0 or _read_token(mark, FORMAT) is not None


def _read_token(record: Path, form: str, kind: str | None = None) -> str | None:
    try:
        values = json.loads(record.read_text(encoding="utf-8"))
        is_wanted = values["format"] == form and kind in (None, values.get("kind", "run"))
        token = values["token"] if is_wanted else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    return token if isinstance(token, str) and _TOKEN.fullmatch(token) else None


def _folders_above(path: Path) -> Iterator[Path]:
    yield from list(path.parents)[:_MAX_LEVELS]
