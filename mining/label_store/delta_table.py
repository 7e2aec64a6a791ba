"""The label store on disk or object storage: a Delta table whose versions are published atomically.

A version is written against the version it was planned from. If another version was published in between, it is not
written, and the job plans again. So two writers never publish the same image twice, nor overwrite each other's rows.

The record of a version lists all its data files with their SHA-256, and has a digest of its own. A damaged data file is
noticed when it is read, and a damaged log when the version is opened, because it lists other files than the record.
"""

import json
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa

from mining.errors import BoxmineError, InputError, StorageError
from mining.label_store.commit_log import (
    FILES,
    KEY,
    files_of,
    log_damage,
    record_of_version,
    recorded_files,
    records_in,
)
from mining.label_store.data_files import PARTITION, DataFile, read_file, write_files
from mining.label_store.delta_lake import (
    CommitFailedError,
    CommitProperties,
    DeltaError,
    DeltaTable,
    Schema,
    TableNotFoundError,
    create_table_with_add_actions,
)
from mining.label_store.schema import STORE_SCHEMA
from mining.label_store.settings import is_remote
from mining.storage.files import storage_errors
from mining.storage.integrity import with_digest

FORMAT = "boxmine-labels/1"
_TABLE_PROPERTIES = {"delta.logRetentionDuration": "interval 36500 days"}  # the log says where each box comes from
_ORDER = ("image_id", "annotation_id")
_UUID = r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"
# as `write_files` names them, and as earlier versions of boxmine did
_DATA_FILE = re.compile(rf"bucket=\d+/part-(\d{{5}}-)?{_UUID}(-c\d{{3}}\.\w+)?\.parquet")
_STORE_ENTRY = re.compile(r"_delta_log|bucket=\d+|lost\+found")  # of a store whose first version was interrupted
_COMMITS_TO_SEARCH = (1, 16, 256, None)


class ConcurrentPublishError(BoxmineError):
    """Another version was published since the one that this one was planned from; plan again."""


@dataclass(frozen=True)
class Version:
    """A version of a label store.

    Attributes:
        number: Number of the version; -1 before the first.
        table: The opened Delta table; None before the first version.
        record: What the publisher recorded: corpora by name, each with images, runs, settings, model, counts, gates.
        files: The data files.
        where: Address of the store.
    """

    number: int
    table: DeltaTable | None = None
    record: dict[str, Any] = field(default_factory=dict)
    files: tuple[DataFile, ...] = ()
    where: str = ""

    @property
    def store_id(self) -> str | None:
        """Identifies the store wherever it is moved to; None before the first version."""
        return None if self.table is None else str(self.table.metadata().id)

    def corpus(self, name: str) -> dict[str, Any]:
        """Return the record of a corpus; empty before its first version."""
        return dict(self.record.get("corpora", {}).get(name, {}))

    def rows(
        self, corpus: str | None, columns: list[str] | None = None, buckets: Iterable[int] | None = None
    ) -> Iterator[pa.RecordBatch]:
        """Yield rows sorted by bucket, image and box; one bucket at a time is in memory.

        The rows are sorted here because the table promises no order: writers run in parallel, and other tools may have
        compacted it.

        Args:
            corpus: Name of the corpus; None = all corpora.
            columns: Columns of STORE_SCHEMA; None = all.
            buckets: Buckets to read; None = all.

        Raises:
            DamagedFileError: A data file is damaged or missing.
            StorageError: The store cannot be reached.
        """
        names = STORE_SCHEMA.names if columns is None else columns
        needed = list(dict.fromkeys([*names, *_ORDER]))
        for bucket in self.buckets() if buckets is None else sorted(buckets):
            pieces = [read_file(self.where, file, needed, corpus) for file in self.files if file.bucket == bucket]
            if pieces:
                table = pa.concat_tables(pieces).sort_by([(name, "ascending") for name in _ORDER])
                yield from table.select(names).combine_chunks().to_batches()

    def buckets(self) -> list[int]:
        """Return the buckets that have rows, in order."""
        return sorted({file.bucket for file in self.files})


class LabelStore:
    """A label store in a folder or on object storage; credentials and endpoints come from the environment alone."""

    def __init__(self, where: str) -> None:
        """Remember the address of the store; nothing is opened."""
        self.where = where

    def latest(self) -> Version:
        """Open the last version; number -1 if there is none.

        Raises:
            StorageError: The store cannot be reached.
            InputError: It is a Delta table of another tool.
        """
        with _errors(self.where), _log_errors(self.where):
            try:
                table = DeltaTable(self.where)
            except TableNotFoundError:
                return Version(-1)
            return self._version(table)

    def as_of(self, moment: str, option: str = "--as-of") -> Version:
        """Open an earlier version.

        Args:
            moment: Number of the version, or a time (ISO 8601): the last version before it.
            option: Command line option that the moment was given by, for messages.

        Raises:
            InputError: There is no such version.
            StorageError: The store cannot be reached.
        """
        latest = self.latest()
        if latest.table is None:
            raise InputError(f"{self.where} holds no labels yet.")
        try:
            wanted = int(moment) if moment.isdigit() else datetime.fromisoformat(moment)
        except ValueError:
            raise InputError(f"{option} {moment}: give a version's number, or a time such as 2026-01-31.") from None
        number = wanted if isinstance(wanted, int) else self._number_at(latest.table, wanted)
        if number is None:
            raise InputError(f"{self.where} has no version as of {moment}; its first version is later.")
        if number > latest.number:
            raise InputError(f"{self.where} has no version {number}; its last one is {latest.number}.")
        with _errors(self.where), _log_errors(self.where):
            try:
                return self._version(DeltaTable(self.where, version=number))
            except DeltaError as error:
                raise InputError(f"{self.where} cannot be read as of {moment}: {_one_line(error)}.") from None

    def _number_at(self, table: DeltaTable, moment: datetime) -> int | None:
        """The last version at a time, UTC if it has no time zone; None if there was none yet."""
        at = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1000
        with _errors(self.where), _log_errors(self.where):
            return next((int(commit["version"]) for commit in table.history() if commit["timestamp"] <= at), None)

    def records(self) -> list[dict[str, Any]]:
        """Return the records of all versions, latest first; each has its number as `version`."""
        with _errors(self.where), _log_errors(self.where):
            try:
                return records_in(self.where, DeltaTable(self.where).history())
            except TableNotFoundError:
                raise InputError(f"{self.where} holds no labels yet.") from None

    def publish(self, base: Version, buckets: list[int], rows: Iterator[pa.RecordBatch], record: dict[str, Any]) -> int:
        """Publish a version that replaces all rows of some buckets.

        Args:
            base: The version it was planned from.
            buckets: Buckets whose rows are replaced.
            rows: Their new rows, in STORE_SCHEMA, bucket by bucket.
            record: The record of the version.

        Returns:
            The number of the new version.

        Raises:
            ConcurrentPublishError: `base` is not the last version any more.
            StorageError: The store cannot be written.
        """
        with _errors(self.where):
            try:
                written = write_files(self.where, rows)
                kept = [file for file in base.files if file.bucket not in set(buckets)]
                files = recorded_files([*kept, *(new.file for new in written)])
                sealed = with_digest({**record, "format": FORMAT, "version": base.number + 1, FILES: files})
                self._commit(base, buckets, [new.action for new in written], sealed)
                return base.number + 1
            except CommitFailedError as error:
                raise ConcurrentPublishError(
                    f"{self.where}: another job has published meanwhile ({_one_line(error)})."
                ) from error
            except DeltaError as error:
                if base.table is None and "already exists" in str(error):
                    raise ConcurrentPublishError(
                        f"{self.where}: another job has published the first version."
                    ) from error
                raise

    def _commit(self, base: Version, buckets: list[int], actions: list[Any], record: dict[str, Any]) -> None:
        # no retries: they would add the rows beside those of another writer
        properties = CommitProperties(custom_metadata={KEY: json.dumps(record)}, max_commit_retries=0)
        if base.table is None:
            create_table_with_add_actions(
                self.where, Schema.from_arrow(STORE_SCHEMA), actions, mode="error", partition_by=[PARTITION],
                name="labels", configuration=_TABLE_PROPERTIES, commit_properties=properties,
            )  # fmt: skip
        else:
            table = DeltaTable(self.where, version=base.number)
            changed: Any = [(PARTITION, "in", [str(bucket) for bucket in buckets])]
            table.create_write_transaction(
                actions, "overwrite", Schema.from_arrow(STORE_SCHEMA), [PARTITION], changed,
                commit_properties=properties,
            )  # fmt: skip

    def vacuum(self, hours: int, *, dry_run: bool) -> list[str]:
        """Delete data files of boxmine that no version lists and that are older than `hours`; return their names."""
        with _errors(self.where):
            try:
                table = DeltaTable(self.where)
            except TableNotFoundError:
                return []
            all_versions = list(range(table.version() + 1))
            # a dry run: Delta's own deletion would also delete other things that lie in the folder
            orphans = table.vacuum(
                hours, dry_run=True, enforce_retention_duration=False, full=True, keep_versions=all_versions
            )
            names = sorted(name for name in orphans if _DATA_FILE.fullmatch(name))
            if names and not dry_run:
                file_system = table.to_pyarrow_dataset().filesystem
                for name in names:
                    file_system.delete_file(name)
            return names

    def refuse_foreign_folder(self) -> None:
        """Raise InputError if there is no store yet and its folder holds other things."""
        folder = Path(self.where)
        if is_remote(self.where) or not folder.is_dir():
            return
        names = sorted(path.name for path in folder.iterdir())
        foreign = [name for name in names if not _STORE_ENTRY.fullmatch(name)]
        if "_delta_log" not in names and foreign:
            raise InputError(
                f"{self.where} holds other things (e.g. {foreign[0]!r}) and is not a label store; give a new or an "
                "empty folder as `store`. Nothing in it was touched."
            )

    def _version(self, table: DeltaTable) -> Version:
        for limit in _COMMITS_TO_SEARCH:
            # The history is of the whole table, whichever version is open, and its version numbers shift when the log
            # is shortened; a record has the number of its version.
            record = record_of_version(self.where, table.history(limit), table.version())
            if record is not None:
                return Version(int(table.version()), table, record, files_of(self.where, table, record), self.where)
        raise InputError(f"{self.where} is a Delta table, but not a label store; give another `store`.")


@contextmanager
def _errors(where: str) -> Iterator[None]:
    """Turn errors of a store that cannot be reached or written into a StorageError."""
    try:
        if is_remote(where):
            yield
        else:
            with storage_errors(Path(where)):
                yield
    except (DeltaError, OSError) as error:
        raise StorageError(
            f"The label store {where} cannot be used: {_one_line(error)}. "
            "Nothing was published; run the same command again."
        ) from error


@contextmanager
def _log_errors(where: str) -> Iterator[None]:
    """Turn Delta's errors on a local log into a DamagedFileError; for a remote log the connection may be the cause."""
    try:
        yield
    except TableNotFoundError:
        raise
    except (DeltaError, pa.ArrowException, ValueError, KeyError, TypeError) as error:
        is_disk_error = re.search(r"os error|permission denied", str(error), re.IGNORECASE)
        if is_remote(where) or is_disk_error:
            raise
        raise log_damage(where, _one_line(error)) from None
    except BaseException as error:
        if type(error).__name__ != "PanicException":  # raised by Rust code; it does not derive from Exception
            raise
        raise log_damage(where, _one_line(error)) from None


def _one_line(error: BaseException) -> str:
    text = re.sub(r"\x1b\[\d+m", "", str(error))  # without terminal colours
    return " ".join(text.split())[:300].rstrip(".")
