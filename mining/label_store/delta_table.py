"""The label store on disk or object storage: a Delta table whose versions appear whole or not at all.

A version is written against the one it was planned from: where another one came in between, it is not written, and
whoever planned it plans again. So two writers never publish the same image twice, nor one over the other.

The record of a version lists all its data files with their SHA-256, and has a digest of its own. So a damaged data
file is noticed when it is read, and a damaged log when the version is opened: it names other files than the record.
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
from deltalake import CommitProperties, DeltaTable, Schema
from deltalake.exceptions import CommitFailedError, DeltaError, TableNotFoundError
from deltalake.transaction import create_table_with_add_actions

from mining.errors import BoxmineError, InputError, StorageError
from mining.label_store.commit_log import FILES, KEY, as_recorded, files_of, log_damage, record_of_version, records_in
from mining.label_store.data_files import PARTITION, DataFile, read_file, write_files
from mining.label_store.schema import STORE_SCHEMA
from mining.label_store.settings import is_remote
from mining.storage.files import storage_errors
from mining.storage.integrity import with_digest

FORMAT = "boxmine-labels/1"
_FOR_EVER = {"delta.logRetentionDuration": "interval 36500 days"}  # the log says where each box is from
_ORDER = ("image_id", "annotation_id")
_UUID = r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"
# as `write_files` names them, and as earlier versions did
_DATA_FILE = re.compile(rf"bucket=\d+/part-(\d{{5}}-)?{_UUID}(-c\d{{3}}\.\w+)?\.parquet")
_OF_A_STORE = re.compile(r"_delta_log|bucket=\d+|lost\+found")  # a first version may have been cut off
_LOOK_BACK = (1, 16, 256, None)


class ConcurrentPublishError(BoxmineError):
    """Another version was published since the one that was planned from; plan again."""


@dataclass(frozen=True)
class Version:
    """A version of a label store, number -1 before the first.

    record: what its publisher said of it: corpora by name, each with images, runs, settings, models, counts, scores.
    """

    number: int
    table: DeltaTable | None = None
    record: dict[str, Any] = field(default_factory=dict)
    files: tuple[DataFile, ...] = ()
    where: str = ""

    @property
    def store_id(self) -> str | None:
        """What tells this store from others, wherever it lies; None before the first version."""
        return None if self.table is None else str(self.table.metadata().id)

    def corpus(self, name: str) -> dict[str, Any]:
        """What is recorded of a corpus; empty before its first version."""
        return dict(self.record.get("corpora", {}).get(name, {}))

    def rows(
        self, corpus: str | None, columns: list[str] | None = None, buckets: Iterable[int] | None = None
    ) -> Iterator[pa.RecordBatch]:
        """A corpus' rows by bucket, image and box, a bucket in memory at a time; corpus: None = those of all.

        columns, buckets: None = all. The table itself promises no order: writers run in parallel, and others may have
        compacted it. Raises DamagedFileError, StorageError.
        """
        names = STORE_SCHEMA.names if columns is None else columns
        needed = list(dict.fromkeys([*names, *_ORDER]))
        for bucket in self.buckets() if buckets is None else sorted(buckets):
            pieces = [read_file(self.where, file, needed, corpus) for file in self.files if file.bucket == bucket]
            if pieces:
                found = pa.concat_tables(pieces).sort_by([(name, "ascending") for name in _ORDER])
                yield from found.select(names).combine_chunks().to_batches()

    def buckets(self) -> list[int]:
        """Those with rows, in order."""
        return sorted({file.bucket for file in self.files})


class LabelStore:
    """A label store at a folder or an address; credentials and endpoints come from the environment alone."""

    def __init__(self, where: str) -> None:
        self.where = where

    def latest(self) -> Version:
        """The last version, number -1 where there is none. Raises StorageError, InputError for another's table."""
        with _errors(self.where), _opening(self.where):
            try:
                table = DeltaTable(self.where)
            except TableNotFoundError:
                return Version(-1)
            return self._version(table)

    def as_of(self, moment: str, option: str = "--as-of") -> Version:
        """A version by its number, or the last one before a time (ISO 8601); option: by which it was asked for.

        Raises InputError, StorageError.
        """
        latest = self.latest()
        if latest.table is None:
            raise InputError(f"{self.where} holds no labels yet.")
        try:
            wanted = int(moment) if moment.isdigit() else datetime.fromisoformat(moment)
        except ValueError:
            raise InputError(f"{option} {moment}: give a version's number, or a time such as 2026-01-31.") from None
        number = wanted if isinstance(wanted, int) else self._before(latest.table, wanted)
        if number is None:
            raise InputError(f"{self.where} has no version as of {moment}; its first one is younger.")
        if number > latest.number:
            raise InputError(f"{self.where} has no version {number}; its last one is {latest.number}.")
        with _errors(self.where), _opening(self.where):
            try:
                return self._version(DeltaTable(self.where, version=number))
            except DeltaError as error:
                raise InputError(f"{self.where} cannot be read as of {moment}: {_line(error)}.") from None

    def _before(self, table: DeltaTable, moment: datetime) -> int | None:
        """The last version at a time, which is UTC where it does not say; None where there was none yet."""
        at = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1000
        with _errors(self.where), _opening(self.where):
            return next((int(one["version"]) for one in table.history() if one["timestamp"] <= at), None)

    def records(self) -> list[dict[str, Any]]:
        """What the versions say of themselves, last first; each has its number as `version`."""
        with _errors(self.where), _opening(self.where):
            try:
                return records_in(self.where, DeltaTable(self.where).history())
            except TableNotFoundError:
                raise InputError(f"{self.where} holds no labels yet.") from None

    def publish(self, base: Version, buckets: list[int], rows: Iterator[pa.RecordBatch], record: dict[str, Any]) -> int:
        """Put `rows` in place of all rows of `buckets`; gives the new version's number.

        Raises StoreMovedError where `base` is not the last version any more, StorageError.
        """
        with _errors(self.where):
            try:
                written = write_files(self.where, rows)
                kept = [file for file in base.files if file.bucket not in set(buckets)]
                files = as_recorded([*kept, *(one.file for one in written)])
                told = with_digest({**record, "format": FORMAT, "version": base.number + 1, FILES: files})
                self._commit(base, buckets, [one.action for one in written], told)
                return base.number + 1
            except CommitFailedError as error:
                raise ConcurrentPublishError(
                    f"{self.where}: another job published meanwhile ({_line(error)})."
                ) from error
            except DeltaError as error:
                if base.table is None and "already exists" in str(error):
                    raise ConcurrentPublishError(f"{self.where}: another job published the first version.") from error
                raise

    def _commit(self, base: Version, buckets: list[int], actions: list[Any], record: dict[str, Any]) -> None:
        # no retries: what they would do is to write beside what another one wrote meanwhile
        properties = CommitProperties(custom_metadata={KEY: json.dumps(record)}, max_commit_retries=0)
        if base.table is None:
            create_table_with_add_actions(
                self.where, Schema.from_arrow(STORE_SCHEMA), actions, mode="error", partition_by=[PARTITION],
                name="labels", configuration=_FOR_EVER, commit_properties=properties,
            )  # fmt: skip
        else:
            table = DeltaTable(self.where, version=base.number)
            changed: Any = [(PARTITION, "in", [str(bucket) for bucket in buckets])]
            table.create_write_transaction(
                actions, "overwrite", Schema.from_arrow(STORE_SCHEMA), [PARTITION], changed,
                commit_properties=properties,
            )  # fmt: skip

    def vacuum(self, hours: int, *, dry_run: bool) -> list[str]:
        """Delete data files of ours that are older than so many hours and that no version names; gives their names."""
        with _errors(self.where):
            try:
                table = DeltaTable(self.where)
            except TableNotFoundError:
                return []
            every = list(range(table.version() + 1))
            # Delta's own deletion would also take whatever else lies in the folder
            orphans = table.vacuum(
                hours, dry_run=True, enforce_retention_duration=False, full=True, keep_versions=every
            )
            found = sorted(name for name in orphans if _DATA_FILE.fullmatch(name))
            if found and not dry_run:
                files = table.to_pyarrow_dataset().filesystem
                for name in found:
                    files.delete_file(name)
            return found

    def refuse_foreign_folder(self) -> None:
        """Raise InputError where there is no store yet, and the folder for it holds other things."""
        folder = Path(self.where)
        if is_remote(self.where) or not folder.is_dir():
            return
        names = sorted(path.name for path in folder.iterdir())
        foreign = [name for name in names if not _OF_A_STORE.fullmatch(name)]
        if "_delta_log" not in names and foreign:
            raise InputError(
                f"{self.where} holds other things (e.g. {foreign[0]!r}) and is no label store; give a new or an empty "
                "folder as `store`. Nothing in it was touched."
            )

    def _version(self, table: DeltaTable) -> Version:
        for limit in _LOOK_BACK:
            # of the whole table, whatever version is open, which Delta's own numbers forget: the record has its number
            found = table.history(limit)
            ours = record_of_version(self.where, found, table.version())
            if ours is not None:
                return Version(int(table.version()), table, ours, files_of(self.where, table, ours), self.where)
        raise InputError(f"{self.where} is a Delta table, but not one of labels; give another store.")


@contextmanager
def _errors(where: str) -> Iterator[None]:
    """A store that cannot be reached or written is told in a sentence."""
    try:
        if is_remote(where):
            yield
        else:
            with storage_errors(Path(where)):
                yield
    except (DeltaError, OSError) as error:
        raise StorageError(
            f"The label store {where} cannot be used: {_line(error)}. "
            "Nothing was published; give the same command again."
        ) from error


@contextmanager
def _opening(where: str) -> Iterator[None]:
    """What Delta makes of a damaged log on a disk is told as that; of a remote one it may be the line that failed."""
    try:
        yield
    except TableNotFoundError:
        raise
    except (DeltaError, pa.ArrowException, ValueError, KeyError, TypeError) as error:
        is_of_the_disk = re.search(r"os error|permission denied", str(error), re.IGNORECASE)
        if is_remote(where) or is_of_the_disk:
            raise
        raise log_damage(where, _line(error)) from None
    except BaseException as error:
        if type(error).__name__ != "PanicException":  # of Rust, which is no Exception
            raise
        raise log_damage(where, _line(error)) from None


def _line(error: BaseException) -> str:
    text = re.sub(r"\x1b\[\d+m", "", str(error))  # it comes with colours
    return " ".join(text.split())[:300].rstrip(".")
