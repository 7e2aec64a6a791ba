"""The records of versions in the log of a label store, and checks that the log is intact."""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from mining.errors import DamagedFileError
from mining.label_store.data_files import DataFile
from mining.label_store.delta_lake import DeltaTable
from mining.label_store.settings import is_remote
from mining.storage.integrity import digest_matches

KEY = "boxmine"  # of a commit: the record of the version
FILES = "files"  # of a record: SHA-256 of each data file, by bucket and path
# operations by which other tools maintain a table without changing its rows
_HARMLESS_OPERATIONS = {
    "OPTIMIZE", "VACUUM START", "VACUUM END", "SET TBLPROPERTIES", "ADD FEATURE", "UPDATE TABLE METADATA", "FSCK",
    "UPDATE FIELD METADATA",
}  # fmt: skip


def recorded_files(files: Iterable[DataFile]) -> dict[str, dict[str, str | None]]:
    """Return the files of a version as they stand in its record."""
    by_bucket: dict[str, dict[str, str | None]] = {}
    for file in files:
        by_bucket.setdefault(str(file.bucket), {})[file.path] = file.sha256
    return by_bucket


def record_of_version(where: str, history: Sequence[Mapping[str, Any]], number: int) -> dict[str, Any] | None:
    """Return the record of a version.

    Where other tools have maintained the table since, it is the record of the last version of boxmine before it.

    Args:
        where: Address of the store.
        history: Commits of the whole table, latest first.
        number: The version.

    Returns:
        None if none of the commits is one of boxmine.

    Raises:
        DamagedFileError: The log is damaged, or another tool changed rows.
    """
    for position, commit in enumerate(history):
        record = _record_in(where, commit)
        if record is None or record["version"] > number:
            continue
        later_versions = number - record["version"]
        others = history[max(0, position - later_versions) : position]
        if len(others) < later_versions or any(
            commit.get("operation") not in _HARMLESS_OPERATIONS for commit in others
        ):
            raise log_damage(
                where, f"the commit after version {record['version']} was not made by boxmine, or cannot be read"
            )
        return record
    return None


def records_in(where: str, history: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the records of all versions, in the order of the history."""
    return [record for commit in history if (record := _record_in(where, commit)) is not None]


def _record_in(where: str, commit: Mapping[str, Any]) -> dict[str, Any] | None:
    if KEY not in commit:
        return None
    try:
        record = json.loads(commit[KEY])
        if not (isinstance(record["version"], int) and digest_matches(record)):
            raise ValueError("digest")
    except (ValueError, KeyError, TypeError):
        raise log_damage(where, "the record of a version was changed after it was written") from None
    return dict(record)


def files_of(where: str, table: DeltaTable, record: Mapping[str, Any]) -> tuple[DataFile, ...]:
    """Return the data files of an opened version, with the digests from its record.

    Raises:
        DamagedFileError: The log lists other files than the record.
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
            raise log_damage(where, "it lists other data files than the version's record")
        return tuple(recorded.values())
    try:
        buckets = [int(bucket) for bucket in listed["partition.bucket"].to_pylist()] if paths else []
    except (KeyError, TypeError, ValueError):
        raise log_damage(where, "it lists data files without their bucket") from None
    return tuple(recorded.get(path, DataFile(bucket, path, None)) for path, bucket in zip(paths, buckets, strict=True))


def log_damage(where: str, reason: str) -> DamagedFileError:
    """Return the error for a damaged log, which names the damaged file if it can be found."""
    broken = None if is_remote(where) else _unreadable_commit(Path(where) / "_delta_log")
    name = broken or f"{where}/_delta_log"
    return DamagedFileError(
        f"{name} is damaged: {reason}. Restore the folder _delta_log from a backup of the store; nothing was changed."
    )


def _unreadable_commit(log: Path) -> Path | None:
    """The latest commit file that is not valid JSON."""
    for path in sorted(log.glob("*.json"), reverse=True):
        try:
            for line in path.read_text(encoding="utf-8").splitlines():
                json.loads(line)
        except (OSError, ValueError):
            return path
    return None
