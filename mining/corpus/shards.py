"""The corpus table on disk: a Parquet file with one row group per shard."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import lru_cache
from itertools import zip_longest
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from mining.corpus.schema import CORPUS_SCHEMA, STATES
from mining.corpus.summary import CorpusSummary
from mining.errors import CorpusError
from mining.storage.parquet import open_verified, parquet_writer


class CorpusUpdate(NamedTuple):
    """New values of one image's row; None keeps the value in the table.

    Attributes:
        state: A key of `STATES`.
        width: Width in pixels.
        height: Height in pixels.
        content_hash: SHA-256 of the file.
        labels: Names of the classes in the image.
    """

    state: str
    width: int | None = None
    height: int | None = None
    content_hash: str | None = None
    labels: list[str] | None = None


_SUMMARY_KEY = "boxmine.corpus"


def rows_to_table(rows: Iterable[tuple[Any, ...]]) -> pa.Table:
    """Convert rows (at least one), with values in the order of CORPUS_SCHEMA, to a table."""
    columns = zip(*rows, strict=True)
    arrays = [pa.array(column, kind.type) for column, kind in zip(columns, CORPUS_SCHEMA, strict=True)]
    return pa.Table.from_arrays(arrays, schema=CORPUS_SCHEMA)


@contextmanager
def corpus_writer(out: Path) -> Iterator[pq.ParquetWriter]:
    """Open a writer of a corpus table, which appears complete when the block ends without an error, or not at all."""
    with parquet_writer(out, CORPUS_SCHEMA) as writer:
        yield writer


def write_shard(writer: pq.ParquetWriter, shard: pa.Table) -> None:
    """Write one shard of at least one row, as one row group."""
    writer.write_table(shard, row_group_size=shard.num_rows)


def write_summary(writer: pq.ParquetWriter, summary: CorpusSummary) -> None:
    """Store the summary in the footer of the table, for `read_summary`."""
    writer.add_key_value_metadata({_SUMMARY_KEY: summary.to_json()})


@contextmanager
def _opened(path: Path) -> Iterator[pq.ParquetFile]:
    try:
        with open_verified(path, _footer_of) as file:
            if not file.schema_arrow.equals(CORPUS_SCHEMA):
                raise CorpusError(
                    f"{path} is not a corpus table: its columns are {', '.join(file.schema_arrow.names)}, expected "
                    f"{', '.join(CORPUS_SCHEMA.names)}."
                )
            yield file
    except FileNotFoundError:
        raise CorpusError(f"{path} does not exist. Scan the images to write it.") from None
    except (pa.ArrowException, OSError) as error:
        raise CorpusError(f"{path} cannot be read as a corpus table ({error}). Delete it and scan again.") from error


def _footer_of(path: Path) -> pq.FileMetaData:
    status = path.stat()
    return _read_footer(path, status.st_ino, status.st_mtime_ns, status.st_size)


@lru_cache(maxsize=1)
def _read_footer(path: Path, *_identity: int) -> pq.FileMetaData:
    # cached from shard to shard: the footer lists all row groups, so that the time of reading it for each shard grows
    # with the square of their number (35 ms per shard at 4,000 shards)
    return pq.read_metadata(path)


def shard_count(path: Path) -> int:
    """Number of shards of a corpus table."""
    with _opened(path) as file:
        return int(file.num_row_groups)


def read_shard(path: Path, index: int) -> pa.Table:
    """Read one shard of a corpus table.

    Args:
        path: The corpus table.
        index: Number of the shard, from 0.

    Returns:
        Its rows, in CORPUS_SCHEMA.

    Raises:
        IndexError: There is no such shard.
        CorpusError: The file is not a corpus table.
    """
    with _opened(path) as file:
        if not 0 <= index < file.num_row_groups:
            raise IndexError(f"{path} has {file.num_row_groups} shards, asked for shard {index}")
        return _shard(file, index)


def iter_shards(path: Path) -> Iterator[pa.Table]:
    """Read the shards in order, one in memory at a time."""
    with _opened(path) as file:
        for index in range(file.num_row_groups):
            yield _shard(file, index)


def _shard(file: pq.ParquetFile, index: int) -> pa.Table:
    return file.read_row_group(index).cast(CORPUS_SCHEMA)


def read_summary(path: Path) -> CorpusSummary:
    """Read the summary of the scan that wrote the table.

    Raises:
        CorpusError: The file is not a corpus table, or has no summary.
    """
    with _opened(path) as file:
        text = (file.metadata.metadata or {}).get(_SUMMARY_KEY.encode())
    if text is None:
        raise CorpusError(f"{path} has no summary. Scan the images again.")
    return CorpusSummary.from_json(text)


def update_corpus(
    path: Path, out: Path, changes: Iterable[Mapping[int, CorpusUpdate]], notes: Sequence[str] = ()
) -> None:
    """Rewrite a corpus table with new states, sizes and hashes, atomically; rows and shards stay the same.

    Args:
        path: The table.
        out: The table to write; may be `path`.
        changes: One mapping from image id to new values per shard, in order; other images stay unchanged.
        notes: Notes to add to the summary; may still grow while `changes` are read.

    Raises:
        ValueError: A state is unknown, an image id is not in the shard, or the number of mappings differs from that of
            the shards.
    """
    summary = read_summary(path)
    with corpus_writer(out) as writer:
        for index, (shard, change) in enumerate(zip_longest(iter_shards(path), changes)):
            if shard is None or change is None:
                raise ValueError(f"{path} has {shard_count(path)} shards; expected one mapping for each")
            write_shard(writer, _update_shard(shard, change, index))
        write_summary(writer, replace(summary, notes=[*summary.notes, *notes]))


def _update_shard(shard: pa.Table, changes: Mapping[int, CorpusUpdate], index: int) -> pa.Table:
    ids, *old = (shard[name].to_pylist() for name in ("image_id", *CorpusUpdate._fields))
    unknown_ids = set(changes) - set(ids)
    if unknown_ids:
        raise ValueError(f"image_id {min(unknown_ids)} is not in shard {index}")
    unknown_states = {change.state for change in changes.values()} - set(STATES)
    if unknown_states:
        raise ValueError(f"unknown state {min(unknown_states)!r}; the states are {', '.join(STATES)}")
    current = map(CorpusUpdate._make, zip(*old, strict=True))
    rows = [_merge(changes.get(identity), row) for identity, row in zip(ids, current, strict=True)]
    for name, values in zip(CorpusUpdate._fields, zip(*rows, strict=True), strict=True):
        position = shard.schema.get_field_index(name)
        shard = shard.set_column(position, shard.schema.field(name), pa.array(values, shard.schema.field(name).type))
    return shard


def _merge(change: CorpusUpdate | None, current: CorpusUpdate) -> CorpusUpdate:
    if change is None:
        return current
    return CorpusUpdate._make(old if new is None else new for new, old in zip(change, current, strict=True))
