"""Files that are there whole or not at all."""

import errno
import hashlib
import json
import os
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
_WRONG_PLACE = {
    errno.ENOTDIR: "a folder above it is a file",
    errno.EEXIST: "a folder above it is a file",
    errno.EISDIR: "a folder of this name is there already",
    errno.ENAMETOOLONG: "its name is too long for the file system",
}

_CANNOT_LINK = {errno.EXDEV, errno.EPERM, errno.EACCES, errno.EMLINK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL}


@contextmanager
def storage_errors(path: Path) -> Iterator[None]:
    """Turn the disk's refusals into a StorageError that names the file and the remedy.

    Raises InputError where no file can ever be, because a file stands in place of a folder or the reverse.
    """
    try:
        yield
    except Exception as error:
        number = getattr(error, "errno", None)
        if number in _WRONG_PLACE:
            raise InputError(f"Cannot write {path}: {_WRONG_PLACE[number]}. Choose another place.") from error
        reason = _DISK_REFUSED.get(number or 0) or _reason_in_words(error)
        if reason is None:
            raise
        raise StorageError(
            f"Cannot write {path}: {reason}. Make room (or mend the path or its permissions) and give the same command "
            "again; what is finished is kept."
        ) from error


def _reason_in_words(error: Exception) -> str | None:
    # pyarrow, safetensors and torch have the number in the text only, or not at all
    text = str(error)
    return "the disk is full" if "No space left on device" in text or "PytorchStreamWriter" in text else None


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Give a temporary name beside `path` to write to; rename it when the block ends well.

    The file appears under its own name complete and flushed to the disk, or not at all.
    Raises StorageError when the disk refuses, InputError where no file can be.
    """
    temporary = temporary_path(path)
    with storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield temporary
            with temporary.open("rb") as written:
                os.fsync(written.fileno())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)


def link_or_copy(source: Path, target: Path) -> None:
    """Make `target` a second name of the file, which takes no room; where the disk has no such thing, a copy."""
    try:
        # resolved: a link to a symbolic link would be one itself
        os.link(source.resolve(), target)
    except OSError as error:
        if error.errno not in _CANNOT_LINK:
            raise
        shutil.copyfile(source, target)


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented JSON, whole or not at all."""
    text = json.dumps(value, indent=2, ensure_ascii=False, default=str, allow_nan=False)
    with atomic_write(path) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")


def sha256_of(path: Path) -> str:
    """The file's SHA-256 as 64 hex digits, read in pieces."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
