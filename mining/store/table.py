"""The label store on disk or object storage: a Delta table whose versions appear whole or not at all.

A version is written against the one it was planned from: where another one came in between, it is not written, and
whoever planned it plans again. So two writers never publish the same image twice, nor one over the other.
"""

import json
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.dataset as ds
from deltalake import CommitProperties, DeltaTable, WriterProperties, write_deltalake
from deltalake.exceptions import CommitFailedError, DeltaError, TableNotFoundError

from mining.errors import BoxmineError, InputError, StorageError
from mining.files import storage_errors
from mining.store.schema import STORE_SCHEMA
from mining.store.settings import is_remote

FORMAT = "boxmine-labels/1"
_KEY = "boxmine"
_FOR_EVER = {"delta.logRetentionDuration": "interval 36500 days"}  # the log says where each box is from
# small row groups: those of all buckets that change are in memory until the version is written
_WRITTEN = WriterProperties(compression="ZSTD", max_row_group_size=16_384)
_ORDER = ("image_id", "annotation_id")
_UUID = r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"
_DATA_FILE = re.compile(rf"bucket=\d+/part-\d{{5}}-{_UUID}-c\d{{3}}\.\w+\.parquet")  # as the writer names them
_OF_A_STORE = re.compile(r"_delta_log|bucket=\d+|lost\+found")  # a first version may have been cut off
_LOOK_BACK = (1, 16, 256, None)


class StoreMovedError(BoxmineError):
    """Another version was published since the one that was planned from; plan again."""


@dataclass(frozen=True)
class Version:
    """A version of a label store, number -1 before the first.

    record: what its publisher said of it: corpora by name, each with images, runs, settings, models, counts, scores.
    """

    number: int
    table: DeltaTable | None = None
    record: dict[str, Any] = field(default_factory=dict)

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
        compacted it.
        """
        if self._data is None:
            return
        names = STORE_SCHEMA.names if columns is None else columns
        for bucket in self.buckets() if buckets is None else sorted(buckets):
            wanted = ds.field("bucket") == bucket
            if corpus is not None:
                wanted &= ds.field("corpus") == corpus
            found = self._data.to_table(columns=list(dict.fromkeys([*names, *_ORDER])), filter=wanted)
            found = found.sort_by([(name, "ascending") for name in _ORDER]).select(names).combine_chunks()
            yield from found.to_batches()

    @cached_property
    def _data(self) -> ds.Dataset | None:
        return None if self.table is None else self.table.to_pyarrow_dataset()

    def buckets(self) -> list[int]:
        """Those with rows, in order."""
        if self.table is None:
            return []
        return sorted({int(partition["bucket"]) for partition in self.table.partitions()})


class LabelStore:
    """A label store at a folder or an address; credentials and endpoints come from the environment alone."""

    def __init__(self, where: str) -> None:
        self.where = where

    def latest(self) -> Version:
        """The last version, number -1 where there is none. Raises StorageError, InputError for another's table."""
        with _errors(self.where):
            try:
                table = DeltaTable(self.where)
            except TableNotFoundError:
                return Version(-1)
            return self._version(table)

    def as_of(self, moment: str) -> Version:
        """A version by its number, or the last one before a time (ISO 8601). Raises InputError, StorageError."""
        latest = self.latest()
        if latest.table is None:
            raise InputError(f"{self.where} holds no labels yet.")
        try:
            wanted = int(moment) if moment.isdigit() else datetime.fromisoformat(moment)
        except ValueError:
            raise InputError(f"--as-of {moment}: give a version's number, or a time such as 2026-01-31.") from None
        number = wanted if isinstance(wanted, int) else self._before(latest.table, wanted)
        if number is None:
            raise InputError(f"{self.where} has no version as of {moment}; its first one is younger.")
        if number > latest.number:
            raise InputError(f"{self.where} has no version {number}; its last one is {latest.number}.")
        with _errors(self.where):
            try:
                return self._version(DeltaTable(self.where, version=number))
            except DeltaError as error:
                raise InputError(f"{self.where} cannot be read as of {moment}: {_line(error)}.") from None

    def _before(self, table: DeltaTable, moment: datetime) -> int | None:
        """The last version at a time, which is UTC where it does not say; None where there was none yet."""
        at = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1000
        with _errors(self.where):
            return next((int(one["version"]) for one in table.history() if one["timestamp"] <= at), None)

    def records(self) -> list[dict[str, Any]]:
        """What the versions say of themselves, last first; each has its number as `version`."""
        with _errors(self.where):
            try:
                return list(_records(DeltaTable(self.where).history()))
            except TableNotFoundError:
                raise InputError(f"{self.where} holds no labels yet.") from None

    def publish(self, base: Version, buckets: list[int], rows: Iterator[pa.RecordBatch], record: dict[str, Any]) -> int:
        """Put `rows` in place of all rows of `buckets`; gives the new version's number.

        Raises StoreMovedError where `base` is not the last version any more, StorageError.
        """
        # no retries: what they would do is to write beside what another one wrote meanwhile
        properties = CommitProperties(
            custom_metadata={_KEY: json.dumps({**record, "format": FORMAT, "version": base.number + 1})},
            max_commit_retries=0,
        )
        reader = pa.RecordBatchReader.from_batches(STORE_SCHEMA, rows)
        with _errors(self.where):
            try:
                if base.table is None:
                    write_deltalake(
                        self.where, reader, mode="error", partition_by=["bucket"], configuration=_FOR_EVER,
                        name="labels", commit_properties=properties, writer_properties=_WRITTEN,
                    )  # fmt: skip
                    return 0
                # opened once more: `rows` may read from the base while this one writes
                table = DeltaTable(self.where, version=base.number)
                predicate = f"bucket IN ({', '.join(map(str, buckets))})"
                write_deltalake(
                    table, reader, mode="overwrite", predicate=predicate, commit_properties=properties,
                    writer_properties=_WRITTEN,
                )  # fmt: skip
                return base.number + 1
            except CommitFailedError as error:
                raise StoreMovedError(f"{self.where}: another job published meanwhile ({_line(error)}).") from error
            except DeltaError as error:
                if base.table is None and "already exists" in str(error):
                    raise StoreMovedError(f"{self.where}: another job published the first version.") from error
                raise

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
            ours = next((one for one in _records(found) if one["version"] <= table.version()), None)
            if ours is not None:
                return Version(int(table.version()), table, ours)
            if limit is not None and len(found) < limit:
                break
        raise InputError(f"{self.where} is a Delta table, but not one of labels; give another store.")


def _records(history: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    return (json.loads(one[_KEY]) for one in history if _KEY in one)


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


def _line(error: BaseException) -> str:
    text = re.sub(r"\x1b\[\d+m", "", str(error))  # it comes with colours
    return " ".join(text.split())[:300].rstrip(".")
