"""Which files and folders are boxmine's own, so that nothing else is ever deleted or replaced.

A folder that boxmine fills (an unfinished model, a generated corpus, an experiment, a job's work folder) holds a small
file `.boxmine` with a random token: its mark. A run has the token in its record, run.json. Temporary files below such a
folder carry the token in their names. A later start therefore deletes what a killed process left in this very folder,
and nothing that merely has a similar name.
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
_RECORDS = {MARK_FILE: FORMAT, "run.json": "boxmine-run/1"}  # where a token may stand; a run needs no mark beside it
_TOKEN = re.compile(r"[0-9a-f]{16}")
_LEVELS = 3  # a run's charts lie in report/charts
_LONGEST_NAME_BYTES = 120  # file systems take 255, and ours comes with a token


def token_of(folder: Path, kind: str | None = None) -> str | None:
    """The token in the folder's own mark or run record; None where it has none, or not one of this kind."""
    found = (_token_in(folder / name, form, kind) for name, form in _RECORDS.items())
    return next(filter(None, found), None)


def foreign_entries(folder: Path, own: Collection[str] = ()) -> list[str]:
    """Names in the folder that are neither in `own` nor the mark nor temporary files that carry its token, sorted."""
    token = token_of(folder)
    names = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
    return [
        name
        for name in names
        if name not in own
        and not (token is not None and name.startswith(f"{TEMPORARY}{token}-"))
        and not (name == MARK_FILE and _is_ours(folder / name))
    ]


def mark_folder(folder: Path, kind: str, new: str | None = None) -> str:
    """Put a mark into the folder, which is created, unless it has one; gives its token.

    new: the token of a new mark, by default a random one. The caller has made sure that nothing foreign is in the
    folder, and holds its lock. Raises InputError where a file of the mark's name is not ours.
    """
    token = token_of(folder)
    if token is not None:
        return token
    if (folder / MARK_FILE).exists() and not _is_ours(folder / MARK_FILE):
        raise InputError(f"{folder / MARK_FILE} is not one of boxmine's marks; move it away, or give another folder.")
    folder.mkdir(parents=True, exist_ok=True)
    token = new or token_hex(8)
    text = json.dumps({"format": FORMAT, "kind": kind, "token": token}) + "\n"
    handle = os.open(folder / MARK_FILE, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    try:
        os.write(handle, text.encode())  # in one piece: a killed process leaves an empty mark or a whole one
        os.fsync(handle)
    finally:
        os.close(handle)
    return token


def unmark_folder(folder: Path) -> None:
    """Take the mark away, where it is ours."""
    if _is_ours(folder / MARK_FILE):
        (folder / MARK_FILE).unlink(missing_ok=True)


def temporary_path(path: Path) -> Path:
    """A new temporary name beside `path`, with the token of the marked folder that it lies in."""
    token = next(filter(None, map(token_of, _folders_above(path))), None) or token_hex(8)
    return path.with_name(f"{TEMPORARY}{token}-{token_hex(4)}-{short_name(path)}")


def short_name(path: Path) -> str:
    """The end of the file's name, short enough for a token in front of it."""
    return path.name.encode(errors="surrogateescape")[-_LONGEST_NAME_BYTES:].decode(errors="ignore")


def find_temporaries(folder: Path, below: Collection[str] = ()) -> list[Path]:
    """The temporary files and folders that carry the token of a marked folder, in it and directly in `below`.

    below: its sub-folders to look into; others are not looked into.
    """
    token = token_of(folder)
    if token is None:
        return []
    places = [place for place in (folder, *(folder / name for name in below)) if _is_plain_folder(place)]
    return [path for place in places for path in sorted(place.iterdir()) if _carries(path, token)]


def delete_temporaries(folder: Path, below: Collection[str] = ()) -> int:
    """Delete what `find_temporaries` lists; gives how many. The caller holds the folder's lock."""
    found = find_temporaries(folder, below)
    for path in found:
        delete_own(path)
    return len(found)


def delete_own(path: Path) -> None:
    """Delete a file or a folder that is our own; a symbolic link goes, and what it leads to stays."""
    if _is_plain_folder(path):
        for child in path.iterdir():  # the mark last, so that what is left of a killed deletion is still known as ours
            if _is_plain_folder(child):
                shutil.rmtree(child, ignore_errors=True)
            elif child.name != MARK_FILE:
                child.unlink(missing_ok=True)
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def delete_files(folder: Path, names: Collection[str], *, with_folder: bool = True) -> None:
    """Delete files that we have written to the folder by their names.

    with_folder: then the folder, too, where nothing else is in it.
    """
    if not _is_plain_folder(folder):
        return
    for name in names:
        with suppress(IsADirectoryError, PermissionError):  # a folder of that name is not ours
            (folder / name).unlink(missing_ok=True)
    with suppress(OSError):
        if with_folder:
            folder.rmdir()


def _carries(path: Path, token: str) -> bool:
    return path.name.startswith(f"{TEMPORARY}{token}-")


def _is_plain_folder(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink()


def _is_ours(mark: Path) -> bool:
    # an empty one is of a process that was killed while it wrote it
    if not mark.is_file() or mark.is_symlink():
        return False
    return mark.stat().st_size == 0 or _token_in(mark, FORMAT) is not None


def _token_in(record: Path, form: str, kind: str | None = None) -> str | None:
    try:
        values = json.loads(record.read_text(encoding="utf-8"))
        is_wanted = values["format"] == form and kind in (None, values.get("kind", "run"))
        token = values["token"] if is_wanted else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    return token if isinstance(token, str) and _TOKEN.fullmatch(token) else None


def _folders_above(path: Path) -> Iterator[Path]:
    yield from list(path.parents)[:_LEVELS]
