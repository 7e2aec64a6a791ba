"""Write, read and merge part files: the boxes and image outcomes of one shard, written atomically.

A part is sealed (see mining.storage.integrity) and records what it was made from (see `PartOrigin`), so that neither a
damaged part nor one of another run is used. It also holds the digest of the file with its curves.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from mining.engine.outcome import ImageOutcome
from mining.engine.timing import Timing
from mining.errors import DamagedPartError
from mining.runs.schema import ANNOTATION_SCHEMA, CURVE_SCHEMA
from mining.storage.embedded_digest import embedded_digest_matches
from mining.storage.files import sha256_of
from mining.storage.parquet import parquet_writer

_IMAGES = b"boxmine.images"
_TIMING = b"boxmine.timing"
_ORIGIN = b"boxmine.origin"
_CURVES = b"boxmine.curves"
ROWS_PER_GROUP = 4096
TABLES_PER_GROUP = 64  # if each has only a few rows
PART_SCHEMA = pa.schema([column for column in ANNOTATION_SCHEMA if column.name != "annotation_id"])


@dataclass(frozen=True)
class PartOrigin:
    """SHA-256 digests of what a part was made from (see mining.runs.part_origins)."""

    model: str
    settings: str
    shard: str


_OUTCOME_FIELDS = [field.name for field in fields(ImageOutcome) if field.name not in ("boxes", "curves")]


def write_part(
    path: Path,
    outcomes: Sequence[ImageOutcome],
    curves: Path | None = None,
    timing: Timing | None = None,
    origin: PartOrigin | None = None,
) -> None:
    """Write a shard's boxes as rows and its images' outcomes as metadata.

    Args:
        path: The part file.
        outcomes: The outcomes of the shard's images, with their boxes.
        curves: The file for their curves; it is written first, so that a part never lacks its curves.
        timing: What mining them took; the time for writing is added, except for the final rename.
        origin: What the part was made from.

    Raises:
        StorageError: The disk refused a file.
    """
    began = time.perf_counter()
    metadata: dict[bytes, Any] = {
        _IMAGES: [{name: getattr(outcome, name) for name in _OUTCOME_FIELDS} for outcome in outcomes]
    }
    if origin is not None:
        metadata[_ORIGIN] = asdict(origin)
    if curves is not None:
        with parquet_writer(curves, CURVE_SCHEMA) as writer:
            writer.write_table(_table([row for outcome in outcomes for row in outcome.curves], CURVE_SCHEMA))
        metadata[_CURVES] = sha256_of(curves)
    schema = PART_SCHEMA.with_metadata({key: orjson.dumps(value) for key, value in metadata.items()})
    with parquet_writer(path, schema) as writer:
        writer.write_table(_table([row for outcome in outcomes for row in outcome.boxes], schema))
        if timing is not None:
            timed = timing.with_writing(time.perf_counter() - began)
            writer.add_key_value_metadata({_TIMING: orjson.dumps(asdict(timed))})


def _table(rows: list[dict[str, Any]], schema: pa.Schema) -> pa.Table:
    return pa.Table.from_pylist(rows, schema=schema)


def part_outcomes(path: Path, origin: PartOrigin | None = None) -> list[ImageOutcome] | None:
    """Return the images' outcomes without their boxes; None if there is no intact part with this version's columns.

    Args:
        path: The part file.
        origin: What the part must have been made from; None accepts any.
    """
    try:
        schema = _read_schema(path)
        if origin is not None and orjson.loads(schema.metadata[_ORIGIN]) != asdict(origin):
            return None
        outcomes = [ImageOutcome(**image) for image in orjson.loads(schema.metadata[_IMAGES])]
        return outcomes if schema.equals(PART_SCHEMA) else None
    except (OSError, pa.ArrowException, KeyError, TypeError, ValueError):
        return None


def _read_schema(path: Path) -> pa.Schema:
    """Return the schema; ValueError if the seal is broken, OSError and Arrow's errors if it cannot be read."""
    if embedded_digest_matches(path) is False:
        raise ValueError("damaged")
    return pq.read_schema(path)


def part_timing(path: Path) -> Timing | None:
    """Return what mining the part took, None if that is not recorded."""
    try:
        return Timing.from_record(orjson.loads(pq.read_metadata(path).metadata[_TIMING]))
    except (OSError, pa.ArrowException, KeyError, TypeError, ValueError):
        return None


def read_outcomes(
    path: Path, curves: Path | None = None, origin: PartOrigin | None = None
) -> list[ImageOutcome] | None:
    """Return what `part_outcomes` returns; None also if curves are wanted and damaged or of another part."""
    outcomes = part_outcomes(path, origin)
    return outcomes if outcomes is not None and (curves is None or _has_curves(path, curves)) else None


def _has_curves(part: Path, curves: Path) -> bool:
    try:
        digest = pq.read_schema(part).metadata.get(_CURVES)
        fits = (
            embedded_digest_matches(curves) is not False
            if digest is None
            else sha256_of(curves) == orjson.loads(digest)
        )
        return fits and pq.read_schema(curves).equals(CURVE_SCHEMA)
    except (OSError, pa.ArrowException, ValueError):
        return False


def is_done(path: Path, curves: Path | None = None, origin: PartOrigin | None = None) -> bool:
    """Return whether the part is intact and made from `origin`, and has its curves if they are wanted."""
    return read_outcomes(path, curves, origin) is not None


def is_sound(path: Path, curves: Path | None = None, origin: PartOrigin | None = None) -> bool:
    """Return what `is_done` returns, but check the pages too: parts of earlier versions have checksums there only."""
    try:
        files = [(path, PART_SCHEMA)] + ([] if curves is None else [(curves, CURVE_SCHEMA)])
        for file, schema in files:
            next(tables_of([file], schema))
    except DamagedPartError:
        return False
    return is_done(path, curves, origin)


@contextmanager
def table_writer(out: Path, schema: pa.Schema) -> Iterator[Callable[[pa.Table], None]]:
    """Yield a function that appends a table to the file `out`, which appears whole when the block ends, or not at all.

    Small tables share a row group: what a Parquet writer keeps in memory, and every reader reads first, grows with the
    number of row groups.

    Raises:
        StorageError: The disk refused the file.
    """
    pieces: list[pa.Table] = []
    rows = 0
    with parquet_writer(out, schema) as writer:

        def add(piece: pa.Table) -> None:
            nonlocal rows
            if len(piece):
                pieces.append(piece)
                rows += len(piece)
            if rows >= ROWS_PER_GROUP or len(pieces) >= TABLES_PER_GROUP:
                write()

        def write() -> None:
            nonlocal rows
            writer.write_table(pa.concat_tables(pieces))
            pieces.clear()
            rows = 0

        yield add
        if rows:
            write()


def merge_parts(parts: Sequence[Path], out: Path) -> int:
    """Write all parts as one table with consecutive annotation ids.

    Returns:
        The number of boxes.

    Raises:
        DamagedPartError: A part is damaged.
        StorageError: The disk refused the file.
    """
    written = 0
    with table_writer(out, ANNOTATION_SCHEMA) as add:
        for table in tables_of(parts, PART_SCHEMA):
            ids = pa.array(range(written + 1, written + 1 + len(table)), pa.int64())
            add(table.add_column(0, ANNOTATION_SCHEMA.field(0), ids).cast(ANNOTATION_SCHEMA))
            written += len(table)
    return written


def merge_curves(parts: Sequence[Path], out: Path) -> None:
    """Write the curves of all shards as one table. Raises the errors of `merge_parts`."""
    with table_writer(out, CURVE_SCHEMA) as add:
        for table in tables_of(parts, CURVE_SCHEMA):
            add(table)


def tables_of(parts: Sequence[Path], schema: pa.Schema) -> Iterator[pa.Table]:
    """Yield the rows of each part. Raises DamagedPartError."""
    for part in parts:
        try:
            if embedded_digest_matches(part) is False:
                raise ValueError("damaged")
            with pq.ParquetFile(part, page_checksum_verification=True) as file:
                yield file.read().cast(schema)
        except (OSError, ValueError, pa.ArrowException):
            raise DamagedPartError(part) from None
