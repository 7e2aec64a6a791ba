"""The corpus table on disk: Parquet, one row group a shard."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from itertools import zip_longest
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from mining.corpus.schema import CORPUS_SCHEMA, STATES
from mining.corpus.summary import CorpusSummary
from mining.errors import CorpusError
from mining.storage.integrity import check_file
from mining.storage.parquet import parquet_writer


class CorpusUpdate(NamedTuple):
    """What became of an image: state, width, height in pixels, SHA-256 of its file. None keeps what is known."""

    state: str
    width: int | None = None
    height: int | None = None
    content_hash: str | None = None


_SUMMARY_KEY = "boxmine.corpus"


def rows_to_table(rows: Iterable[tuple[Any, ...]]) -> pa.Table:
    """At least one row, values in the order of CORPUS_SCHEMA, as a table."""
    columns = zip(*rows, strict=True)
    arrays = [pa.array(column, kind.type) for column, kind in zip(columns, CORPUS_SCHEMA, strict=True)]
    return pa.Table.from_arrays(arrays, schema=CORPUS_SCHEMA)


@contextmanager
def corpus_writer(out: Path) -> Iterator[pq.ParquetWriter]:
    """A writer to a corpus table, which appears whole when the block ends well, or not at all."""
    with parquet_writer(out, CORPUS_SCHEMA) as writer:
        yield writer


def write_shard(writer: pq.ParquetWriter, shard: pa.Table) -> None:
    """Add one shard, at least one row, as one row group."""
    writer.write_table(shard, row_group_size=shard.num_rows)


def write_summary(writer: pq.ParquetWriter, summary: CorpusSummary) -> None:
    """Keep the summary in the table's file, for `read_summary`."""
    writer.add_key_value_metadata({_SUMMARY_KEY: summary.to_json()})


@contextmanager
def _opened(path: Path) -> Iterator[pq.ParquetFile]:
    check_file(path)
    try:
        with pq.ParquetFile(path, metadata=_footer_of(path), page_checksum_verification=True) as file:
            if not file.schema_arrow.equals(CORPUS_SCHEMA):
                raise CorpusError(
                    f"{path} is not a corpus table: its columns are {', '.join(file.schema_arrow.names)}."
                )
            yield file
    except FileNotFoundError:
        raise CorpusError(f"{path} does not exist; a scan of the images writes it.") from None
    except (pa.ArrowException, OSError) as error:
        raise CorpusError(f"{path} cannot be read as a corpus table ({error}). Delete it and scan again.") from error


def _footer_of(path: Path) -> pq.FileMetaData:
    now = path.stat()
    return _footer(path, now.st_ino, now.st_mtime_ns, now.st_size)


@lru_cache(maxsize=1)
def _footer(path: Path, *_changing: int) -> pq.FileMetaData:
    # kept from shard to shard: it tells of all of them, so that reading it each time makes a corpus of twice as many
    # shards four times as slow to open, 35 ms a shard at 4,000
    return pq.read_metadata(path)


def shard_count(path: Path) -> int:
    """The number of shards of a corpus table."""
    with _opened(path) as file:
        return int(file.num_row_groups)


def read_shard(path: Path, index: int) -> pa.Table:
    """The rows of shard `index`, from 0, in CORPUS_SCHEMA.

    Raises IndexError where there is no such shard, CorpusError where the file is not a corpus table.
    """
    with _opened(path) as file:
        if not 0 <= index < file.num_row_groups:
            raise IndexError(f"{path} has {file.num_row_groups} shards, asked for shard {index}")
        return _shard(file, index)


def iter_shards(path: Path) -> Iterator[pa.Table]:
    """The shards in order, one in memory at a time."""
    with _opened(path) as file:
        for index in range(file.num_row_groups):
            yield _shard(file, index)


def _shard(file: pq.ParquetFile, index: int) -> pa.Table:
    return file.read_row_group(index).cast(CORPUS_SCHEMA)


def read_summary(path: Path) -> CorpusSummary:
    """What the scan that wrote the table told.

    Raises CorpusError where the file is not a corpus table, or holds no summary.
    """
    with _opened(path) as file:
        text = (file.metadata.metadata or {}).get(_SUMMARY_KEY.encode())
    if text is None:
        raise CorpusError(f"{path} holds no summary. Scan the images again.")
    return CorpusSummary.from_json(text)


def update_corpus(path: Path, out: Path, changes: Iterable[Mapping[int, CorpusUpdate]]) -> None:
    """Write the table anew with other states, sizes and hashes; same rows, same shards, whole or not at all.

    changes: one mapping image_id -> CorpusUpdate per shard, in order; images it does not name stay as they are.
    out: may be `path`.
    Raises ValueError for an unknown state, an image_id that is not in the shard, or another number of mappings.
    """
    summary = read_summary(path)
    with corpus_writer(out) as writer:
        for index, (shard, change) in enumerate(zip_longest(iter_shards(path), changes)):
            if shard is None or change is None:
                raise ValueError(f"{path} has {shard_count(path)} shards; one mapping for each was expected")
            write_shard(writer, _changed(shard, change, index))
        write_summary(writer, summary)


def _changed(shard: pa.Table, changes: Mapping[int, CorpusUpdate], index: int) -> pa.Table:
    ids, *old = (shard[name].to_pylist() for name in ("image_id", *CorpusUpdate._fields))
    strangers = set(changes) - set(ids)
    if strangers:
        raise ValueError(f"image_id {min(strangers)} is not in shard {index}")
    unknown = {change.state for change in changes.values()} - set(STATES)
    if unknown:
        raise ValueError(f"unknown state {min(unknown)!r}; the states are {', '.join(STATES)}")
    was = map(CorpusUpdate._make, zip(*old, strict=True))
    rows = [_row(changes.get(identity), known) for identity, known in zip(ids, was, strict=True)]
    for name, values in zip(CorpusUpdate._fields, zip(*rows, strict=True), strict=True):
        place = shard.schema.get_field_index(name)
        shard = shard.set_column(place, shard.schema.field(name), pa.array(values, shard.schema.field(name).type))
    return shard


def _row(change: CorpusUpdate | None, known: CorpusUpdate) -> CorpusUpdate:
    if change is None:
        return known
    return CorpusUpdate._make(old if new is None else new for new, old in zip(change, known, strict=True))
