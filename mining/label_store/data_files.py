"""The Parquet files of a label store: written with their digests, and read only where they still have them."""

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
from deltalake._internal import (
    DeltaFileSystemHandler,  # the public one wraps it in files of pyarrow, which cannot write
)
from deltalake.exceptions import DeltaError
from deltalake.transaction import AddAction

from mining.errors import DamagedFileError, StorageError
from mining.label_store.schema import STORE_SCHEMA
from mining.label_store.settings import is_remote

PARTITION = "bucket"  # of a table; its value stands in the file's folder instead of in its rows
ROWS_OF_A_GROUP = 16_384
_FILE_SCHEMA = pa.schema([field for field in STORE_SCHEMA if field.name != PARTITION])
CHECKED_PARQUET = ds.ParquetFileFormat(
    default_fragment_scan_options=ds.ParquetFragmentScanOptions(page_checksum_verification=True)
)


class DataFile(NamedTuple):
    """A file of a version. path: below the store. sha256: None for a file of an earlier version, or of another tool."""

    bucket: int
    path: str
    sha256: str | None


@dataclass(frozen=True)
class Written:
    """A new file, and how Delta lists it."""

    file: DataFile
    action: AddAction


def write_files(store: str, rows: Iterable[pa.RecordBatch]) -> list[Written]:
    """Write rows in STORE_SCHEMA, those of a bucket together; a bucket is in memory at a time.

    No version has the files until they are committed; those of a failed job are deleted by `vacuum`.
    """
    return [_write_file(store, bucket, batches) for bucket, batches in groupby(_by_bucket(rows), key=_bucket_of)]


def _by_bucket(rows: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    for batch in rows:
        for bucket in pc.unique(batch[PARTITION]).to_pylist():
            yield batch.filter(pc.equal(batch[PARTITION], bucket))


def _bucket_of(batch: pa.RecordBatch) -> int:
    return int(batch[PARTITION][0].as_py())


def _write_file(store: str, bucket: int, batches: Iterable[pa.RecordBatch]) -> Written:
    memory, count = pa.BufferOutputStream(), 0
    with pq.ParquetWriter(memory, _FILE_SCHEMA, compression="zstd", write_page_checksum=True) as writer:
        for table in _in_groups(batches):
            writer.write_table(table)
            count += len(table)
    content = memory.getvalue()
    path = f"{PARTITION}={bucket}/part-{uuid.uuid4()}.parquet"
    _put(store, path, content)
    action = AddAction(
        path, content.size, {PARTITION: str(bucket)}, int(time.time() * 1000), True, json.dumps({"numRecords": count})
    )
    return Written(DataFile(bucket, path, hashlib.sha256(content).hexdigest()), action)


def _in_groups(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.Table]:
    waiting: list[pa.RecordBatch] = []
    for batch in batches:
        waiting.append(batch)
        if sum(map(len, waiting)) >= ROWS_OF_A_GROUP:
            yield pa.Table.from_batches(waiting).select(_FILE_SCHEMA.names).cast(_FILE_SCHEMA)
            waiting = []
    if waiting:
        yield pa.Table.from_batches(waiting).select(_FILE_SCHEMA.names).cast(_FILE_SCHEMA)


def _put(store: str, path: str, content: pa.Buffer) -> None:
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
    """Columns of STORE_SCHEMA of the rows of one corpus, or of all (None), of a file that is as it was written.

    Raises DamagedFileError where it is damaged or missing, StorageError where it cannot be reached.
    """
    content = _content(store, file.path)
    if file.sha256 is not None and hashlib.sha256(content).hexdigest() != file.sha256:
        raise damaged(store, file.path, "its SHA-256 is not the one that the version recorded")
    try:
        fragment = CHECKED_PARQUET.make_fragment(pa.BufferReader(content))
        wanted = None if corpus is None else ds.field("corpus") == corpus
        found = fragment.to_table(
            schema=_FILE_SCHEMA, columns=[name for name in columns if name != PARTITION], filter=wanted
        )
    except (pa.ArrowException, OSError, ValueError) as error:
        raise damaged(store, file.path, " ".join(str(error).split())[:200].rstrip(".")) from None
    if PARTITION in columns:
        value = pa.repeat(pa.scalar(file.bucket, STORE_SCHEMA.field(PARTITION).type), len(found))
        found = found.append_column(STORE_SCHEMA.field(PARTITION), value)
    return found.select(list(columns))


def _content(store: str, path: str) -> bytes:
    try:
        if is_remote(store):
            file: Any = DeltaFileSystemHandler(store).open_input_file(path)
            return bytes(file.read())
        return (Path(store) / path).read_bytes()
    except FileNotFoundError:
        raise damaged(store, path, "the file is missing") from None
    except (OSError, DeltaError) as error:
        raise StorageError(
            f"{store}/{path} cannot be read: {' '.join(str(error).split())[:200].rstrip('.')}. "
            "Run the same command again when the store can be reached."
        ) from error


def damaged(store: str, path: str, reason: str) -> DamagedFileError:
    """The error for a damaged file of a store."""
    return DamagedFileError(
        f"{store}/{path} is damaged: {reason}. Restore the file from a backup of the store; versions without it can "
        "still be read with --as-of."
    )
