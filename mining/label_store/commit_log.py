"""What the log of a label store says, checked against itself: records of versions, and their data files."""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
from deltalake import DeltaTable

from mining.errors import DamagedFileError
from mining.label_store.data_files import DataFile
from mining.label_store.settings import is_remote
from mining.storage.integrity import digest_matches

KEY = "boxmine"  # of a commit: what its publisher said of the version
FILES = "files"  # of a record: path to SHA-256, by bucket
# what other tools do to a table without changing its rows
_HARMLESS = {
    "OPTIMIZE", "VACUUM START", "VACUUM END", "SET TBLPROPERTIES", "ADD FEATURE", "UPDATE TABLE METADATA", "FSCK",
    "UPDATE FIELD METADATA",
}  # fmt: skip


def as_recorded(files: Iterable[DataFile]) -> dict[str, dict[str, str | None]]:
    """The files of a version for its record."""
    found: dict[str, dict[str, str | None]] = {}
    for file in files:
        found.setdefault(str(file.bucket), {})[file.path] = file.sha256
    return found


def record_of_version(where: str, history: Sequence[Mapping[str, Any]], number: int) -> dict[str, Any] | None:
    """The record of a version, or of the last one before it that is ours, where other tools worked on the table since.

    history: commits, the last one first, of the whole table. None where none of them is ours.
    Raises DamagedFileError where the log was damaged or another tool changed rows.
    """
    for position, commit in enumerate(history):
        record = _record_in(where, commit)
        if record is None or record["version"] > number:
            continue
        since = number - record["version"]
        others = history[max(0, position - since) : position]
        if len(others) < since or any(one.get("operation") not in _HARMLESS for one in others):
            raise log_damage(
                where, f"the commit after version {record['version']} is not one of boxmine, or cannot be read"
            )
        return record
    return None


def records_in(where: str, history: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The records of all versions, in the order of the history."""
    return [record for commit in history if (record := _record_in(where, commit)) is not None]


def _record_in(where: str, commit: Mapping[str, Any]) -> dict[str, Any] | None:
    if KEY not in commit:
        return None
    try:
        record = json.loads(commit[KEY])
        if not (isinstance(record["version"], int) and digest_matches(record)):
            raise ValueError("digest")
    except (ValueError, KeyError, TypeError):
        raise log_damage(where, "what a version's publisher recorded is not what was written") from None
    return dict(record)


def files_of(where: str, table: DeltaTable, record: Mapping[str, Any]) -> tuple[DataFile, ...]:
    """The files of an opened version, with the digests that its record has of them.

    Raises DamagedFileError where the log names other files than the record.
    """
    listed = pa.table(table.get_add_actions(flatten=True))
    paths = listed["path"].to_pylist()
    recorded = {
        path: DataFile(int(bucket), path, sha256)
        for bucket, files in record.get(FILES, {}).items()
        for path, sha256 in files.items()
    }
    if FILES in record and record["version"] == table.version():
        if sorted(paths) != sorted(recorded):
            raise log_damage(where, "it names other data files than the version's record")
        return tuple(recorded.values())
    try:
        buckets = [int(one) for one in listed["partition.bucket"].to_pylist()] if paths else []
    except (KeyError, TypeError, ValueError):
        raise log_damage(where, "it names data files without their bucket") from None
    known = zip(paths, buckets, strict=True)
    return tuple(recorded.get(path, DataFile(bucket, path, None)) for path, bucket in known)


def log_damage(where: str, reason: str) -> DamagedFileError:
    """The error for a damaged log; names the file where that can be seen."""
    broken = None if is_remote(where) else _unreadable_commit(Path(where) / "_delta_log")
    name = broken or f"{where}/_delta_log"
    return DamagedFileError(
        f"{name} is damaged: {reason}. Restore the folder _delta_log from a backup of the store; nothing was changed."
    )


def _unreadable_commit(log: Path) -> Path | None:
    """The last commit file that is not readable as JSON."""
    for path in sorted(log.glob("*.json"), reverse=True):
        try:
            for line in path.read_text(encoding="utf-8").splitlines():
                json.loads(line)
        except (OSError, ValueError):
            return path
    return None
