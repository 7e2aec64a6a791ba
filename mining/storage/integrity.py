"""Detect files that changed after boxmine wrote them.

A Parquet file of boxmine holds its own digest (see `embedded_digest`). The record of a finished run, run.json, lists
the SHA-256 of each of its files besides, so that an intact file of another run is detected too. Files that earlier
versions wrote have neither; for those only Parquet's page checksums are verified.
"""

import hashlib
import json
import stat
import time
from collections.abc import Iterable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import orjson

from mining.errors import DamagedFileError
from mining.storage.embedded_digest import embedded_digest_matches
from mining.storage.files import sha256_of

RUN_FILE = "run.json"
DIGESTS = "digests"
"""Key of run.json: SHA-256 by the file's path relative to the run directory."""
PARTS = "parts"
MADE_FROM_PARTS = frozenset(
    {"annotations.parquet", "curves.parquet", "rankings.parquet", "quarantine.parquet", "annotations.json"}
)
"""Files that `boxmine mine` can write again from the run's parts."""
_TIMESTAMP_RESOLUTION_NS = 2_000_000_000  # a file changed more recently may change again without a new timestamp


# --- files of a run --------------------------------------------------------------------------------------------------


def compute_digests(run: Path, names: Iterable[str]) -> dict[str, str]:
    """Compute the SHA-256 of those of a run's files that exist, by name, for the run's record."""
    return {name: sha256_of(run / name) for name in names if (run / name).is_file()}


def check_file(path: Path) -> None:
    """Verify that a file is as it was written.

    A file that a finished run's record lists must have the digest listed there; any other Parquet file must match its
    embedded digest, where it has one. A file that passed is not read again while its size, timestamps and inode stay
    the same. A file that is missing passes: opening it raises the error.

    Raises:
        DamagedFileError: The digest differs.
    """
    try:
        status = path.stat()
    except OSError:
        return
    if not stat.S_ISREG(status.st_mode):
        return
    identity = (status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
    is_settled = max(status.st_mtime_ns, status.st_ctime_ns) < time.time_ns() - _TIMESTAMP_RESOLUTION_NS
    check = _check_once if is_settled else _check_once.__wrapped__
    check(path, _listed_digest(path), identity)


@lru_cache(maxsize=256)
def _check_once(path: Path, listed: str | None, _identity: tuple[int, ...]) -> None:
    if listed is None and path.suffix != ".parquet":
        return
    matches = embedded_digest_matches(path) if listed is None else sha256_of(path) == listed
    if matches is False:
        raise DamagedFileError(damage_message(path))


def find_damaged_files(run: Path) -> list[Path]:
    """List the files of a finished run's record that are missing or not as they were written."""
    damaged = []
    for name in _listed_digests(run):
        try:
            check_file(run / name)
        except DamagedFileError:
            damaged.append(run / name)
        else:
            damaged += [] if (run / name).is_file() else [run / name]
    return damaged


def damage_message(path: Path, reason: str = "") -> str:
    """Describe a damaged file of a run, and how to replace it.

    Args:
        path: The damaged file.
        reason: What a reader reported; by default that the SHA-256 differs.
    """
    can_be_rebuilt = path.name in MADE_FROM_PARTS and (path.parent / PARTS).is_dir()
    remedy = (
        f"Run the `boxmine mine` command of {path.parent} again to write it anew from the run's parts."
        if can_be_rebuilt
        else f"Restore it from a backup, or move {_run_directory_of(path)} away and mine again."
    )
    return f"{path} is damaged: {reason or 'it is not the file that was written (its SHA-256 differs)'}. {remedy}"


def _run_directory_of(path: Path) -> Path:
    return path.parent.parent if (path.parent.parent / RUN_FILE).is_file() else path.parent


def _listed_digest(path: Path) -> str | None:
    for run in (path.parent, path.parent.parent):
        if (run / RUN_FILE).is_file():
            return _listed_digests(run).get(path.relative_to(run).as_posix())
    return None


def _listed_digests(run: Path) -> Mapping[str, str]:
    """The digests in a run's record; none while the run is not finished, because its files still change."""
    try:
        record = json.loads((run / RUN_FILE).read_text(encoding="utf-8"))
        return dict(record.get(DIGESTS, {})) if record["state"] == "finished" else {}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


# --- JSON records ----------------------------------------------------------------------------------------------------


def digest_of(value: Any) -> str:
    """Compute the SHA-256 of a JSON-like value; the order of dictionary keys does not matter."""
    return hashlib.sha256(orjson.dumps(value, option=orjson.OPT_SORT_KEYS)).hexdigest()


def with_digest(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return the record with the SHA-256 of its content under the key `sha256`."""
    return {**record, "sha256": _content_digest(record)}


def digest_matches(record: Mapping[str, Any]) -> bool:
    """Whether a record made by `with_digest` still has the same content; True for one without a digest."""
    return "sha256" not in record or record["sha256"] == _content_digest(record)


def _content_digest(record: Mapping[str, Any]) -> str:
    content = {name: value for name, value in record.items() if name != "sha256"}
    read_back = json.loads(json.dumps(content, default=str))  # JSON keys are text, which sorts otherwise than numbers
    return hashlib.sha256(json.dumps(read_back, sort_keys=True).encode()).hexdigest()
