"""The Parquet files of a label store: written with their digests, and checked against them when they are read."""

import hashlib
import json
import os
import time
import uuid
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from mining.errors import DamagedFileError, StorageError
from mining.label_store.delta_lake import AddAction, DeltaError, DeltaFileSystemHandler
from mining.label_store.schema import STORE_SCHEMA
from mining.label_store.settings import is_remote

PARTITION = "bucket"  # column by which a table is partitioned: stored in the folder's name instead of in the rows
ROWS_PER_GROUP = 16_384
_FILE_SCHEMA = pa.schema([field for field in STORE_SCHEMA if field.name != PARTITION])
CHECKED_PARQUET = ds.ParquetFileFormat(
    default_fragment_scan_options=ds.ParquetFragmentScanOptions(page_checksum_verification=True)
)


class DataFile(NamedTuple):
    """A data file of a version.

    Attributes:
        bucket: Bucket of images that its rows belong to.
        path: Path below the store.
        sha256: SHA-256 of the content; None for files of an earlier boxmine, or of another tool.
    """

    bucket: int
    path: str
    sha256: str | None


@dataclass(frozen=True)
class WrittenFile:
    """A new data file, and the action that adds it to the Delta table."""

    file: DataFile
    action: AddAction


def write_files(store: str, rows: Iterable[pa.RecordBatch]) -> list[WrittenFile]:
    """Write one file per bucket; one bucket at a time is in memory.

    The files belong to no version until they are committed; `vacuum` deletes those of a failed job.

    Args:
        store: Address of the store.
        rows: Batches in STORE_SCHEMA; the rows of a bucket stand together.
    """
    return [_write_file(store, bucket, batches) for bucket, batches in groupby(_by_bucket(rows), key=_bucket_of)]


def _by_bucket(rows: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    for batch in rows:
        for bucket in pc.unique(batch[PARTITION]).to_pylist():
            yield batch.filter(pc.equal(batch[PARTITION], bucket))


def _bucket_of(batch: pa.RecordBatch) -> int:
    return int(batch[PARTITION][0].as_py())


def _write_file(store: str, bucket: int, batches: Iterable[pa.RecordBatch]) -> WrittenFile:
    memory, count = pa.BufferOutputStream(), 0
    with pq.ParquetWriter(memory, _FILE_SCHEMA, compression="zstd", write_page_checksum=True) as writer:
        for table in _row_groups(batches):
            writer.write_table(table)
            count += len(table)
    content = memory.getvalue()
    path = f"{PARTITION}={bucket}/part-{uuid.uuid4()}.parquet"
    _write_content(store, path, content)
    action = AddAction(
        path, content.size, {PARTITION: str(bucket)}, int(time.time() * 1000), True, json.dumps({"numRecords": count})
    )
    return WrittenFile(DataFile(bucket, path, hashlib.sha256(content).hexdigest()), action)


def _row_groups(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.Table]:
    pending: list[pa.RecordBatch] = []
    for batch in batches:
        pending.append(batch)
        if sum(map(len, pending)) >= ROWS_PER_GROUP:
            yield pa.Table.from_batches(pending).select(_FILE_SCHEMA.names).cast(_FILE_SCHEMA)
            pending = []
    if pending:
        yield pa.Table.from_batches(pending).select(_FILE_SCHEMA.names).cast(_FILE_SCHEMA)


def _write_content(store: str, path: str, content: pa.Buffer) -> None:
    if is_remote(store):
        stream: Any = DeltaFileSystemHandler(store).open_output_stream(path)
        stream.write(content.to_pybytes())
        stream.close()
        return
    target = Path(store) / path
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.open("xb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def read_file(store: str, file: DataFile, columns: Sequence[str], corpus: str | None) -> pa.Table:
    """Read a data file after checking its digest.

    Args:
        store: Address of the store.
        file: The file.
        columns: Columns of STORE_SCHEMA.
        corpus: Only rows of this corpus; None = all rows.

    Raises:
        DamagedFileError: The file is damaged or missing.
        StorageError: The file cannot be reached.
    """
    content = _read_content(store, file.path)
    if file.sha256 is not None and hashlib.sha256(content).hexdigest() != file.sha256:
        raise damaged_file(store, file.path, "its SHA-256 is not the one in the version's record")
    try:
        fragment = CHECKED_PARQUET.make_fragment(pa.BufferReader(content))
        of_corpus = None if corpus is None else ds.field("corpus") == corpus
        table = fragment.to_table(
            schema=_FILE_SCHEMA, columns=[name for name in columns if name != PARTITION], filter=of_corpus
        )
    except (pa.ArrowException, OSError, ValueError) as error:
        raise damaged_file(store, file.path, _one_line(error)) from None
    if PARTITION in columns:
        value = pa.repeat(pa.scalar(file.bucket, STORE_SCHEMA.field(PARTITION).type), len(table))
        table = table.append_column(STORE_SCHEMA.field(PARTITION), value)
    return table.select(list(columns))


def _read_content(store: str, path: str) -> bytes:
    try:
        if is_remote(store):
            file: Any = DeltaFileSystemHandler(store).open_input_file(path)
            return bytes(file.read())
        return (Path(store) / path).read_bytes()
    except FileNotFoundError:
        raise damaged_file(store, path, "the file is missing") from None
    except (OSError, DeltaError) as error:
        raise StorageError(
            f"{store}/{path} cannot be read: {_one_line(error)}. "
            "Run the same command again when the store can be reached."
        ) from error


def damaged_file(store: str, path: str, reason: str) -> DamagedFileError:
    """Return the error for a damaged data file of a store."""
    return DamagedFileError(
        f"{store}/{path} is damaged: {reason}. Restore the file from a backup of the store; versions without it can "
        "still be read with --as-of."
    )


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200].rstrip(".")
