"""Atomic file writes, with messages for what the disk refuses."""

import errno
import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mining.errors import InputError, StorageError
from mining.storage.ownership import temporary_path

_DISK_REFUSED = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.EROFS: "the file system is read-only",
    errno.EACCES: "writing is not permitted",
    errno.EPERM: "writing is not permitted",
    errno.EFBIG: "the file would be too large for the file system",
}
_SQLITE_REFUSED = {
    "SQLITE_FULL": "the disk is full",
    "SQLITE_IOERR": "the disk refused it, or the file would be too large",
    "SQLITE_READONLY": "writing is not permitted",
    "SQLITE_CANTOPEN": "writing is not permitted",
}
_WRONG_PLACE = {
    errno.ENOTDIR: "a folder above it is a file",
    errno.EEXIST: "a folder above it is a file",
    errno.EISDIR: "a folder of this name is there already",
    errno.ENAMETOOLONG: "its name is too long for the file system",
}

_CANNOT_LINK = {errno.EXDEV, errno.EPERM, errno.EACCES, errno.EMLINK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL}


@contextmanager
def storage_errors(path: Path) -> Iterator[None]:
    """Turn errors of the operating system while writing `path` into a message with the remedy.

    Args:
        path: What the block writes; named in the message.

    Raises:
        StorageError: The disk is full, read-only or not writable.
        InputError: No file can exist at `path`, e.g. because a folder above it is a file.
    """
    try:
        yield
    except Exception as error:
        number = getattr(error, "errno", None) or _number_from_text(error)
        if number in _WRONG_PLACE:
            raise InputError(f"Cannot write {path}: {_WRONG_PLACE[number]}. Give another path.") from error
        reason = _DISK_REFUSED.get(number or 0) or _reason_of_sqlite(error) or _reason_from_text(error)
        if reason is None:
            raise
        raise StorageError(
            f"Cannot write {path}: {reason}. Free space (or correct the path or its permissions) and run the same "
            "command again to resume; finished work is kept."
        ) from error


def _number_from_text(error: Exception) -> int | None:
    """Return the error number in the text, where pyarrow and safetensors have it; None if there is none."""
    found = re.search(r"(?:os error|errno) (\d+)", str(error), re.IGNORECASE)
    return int(found[1]) if found else None


def _reason_of_sqlite(error: Exception) -> str | None:
    name = str(getattr(error, "sqlite_errorname", ""))  # e.g. SQLITE_IOERR_WRITE
    return next((reason for code, reason in _SQLITE_REFUSED.items() if name.startswith(code)), None)


def _reason_from_text(error: Exception) -> str | None:
    text = str(error)  # torch has no number at all
    return "the disk is full" if "No space left on device" in text or "PytorchStreamWriter" in text else None


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Write a file atomically: it appears under its name complete and flushed to disk, or not at all.

    Args:
        path: The file to write; folders above it are created.

    Yields:
        A temporary path beside `path` to write to. It is renamed to `path` when the block ends without an error.

    Raises:
        StorageError: The disk is full, read-only or not writable.
        InputError: No file can exist at `path`.
    """
    temporary = temporary_path(path)
    with storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield temporary
            with temporary.open("rb") as file:
                os.fsync(file.fileno())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)


def link_or_copy(source: Path, target: Path) -> None:
    """Create `target` as a hard link to `source`, or as a copy where the file system has no hard links."""
    try:
        # resolved, because a hard link to a symbolic link would be a symbolic link
        os.link(source.resolve(), target)
    except OSError as error:
        if error.errno not in _CANNOT_LINK:
            raise
        shutil.copyfile(source, target)


def write_json(path: Path, value: Any) -> None:
    """Write a value as indented JSON, atomically."""
    text = json.dumps(value, indent=2, ensure_ascii=False, default=str, allow_nan=False)
    with atomic_write(path) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")


def sha256_of(path: Path) -> str:
    """Compute the SHA-256 of a file, as 64 hex digits; memory does not depend on its size."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
