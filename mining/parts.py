"""Parts: the boxes and the image states of one shard, in one file that is there whole or not at all."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from mining.annotations.schema import ANNOTATION_SCHEMA, CURVE_SCHEMA
from mining.errors import DamagedPartError
from mining.files import whole_file
from mining.results import Timing

_IMAGES = b"boxmine.images"
_TIMING = b"boxmine.timing"
ROWS_OF_A_GROUP = 4096
PIECES_OF_A_GROUP = 64  # where each has a few rows
PART_SCHEMA = pa.schema([column for column in ANNOTATION_SCHEMA if column.name != "annotation_id"])


@dataclass(frozen=True)
class ImageOutcome:
    """What became of one image: its state (see mining.corpus.schema), size in px, boxes, and why it failed.

    ranked: category ids and probabilities of the surest classes, best first, whatever was known of the image.
    replaced: the file is not the one whose hash was listed.
    """

    image_id: int
    file_name: str
    state: str
    width: int | None
    height: int | None
    reason: str | None = None
    boxes: list[dict[str, Any]] = field(default_factory=list)  # rows of PART_SCHEMA
    curves: list[dict[str, Any]] = field(default_factory=list)  # rows of CURVE_SCHEMA
    ranked: list[tuple[int, float]] = field(default_factory=list)
    replaced: bool = False


_TOLD = [one.name for one in fields(ImageOutcome) if one.name not in ("boxes", "curves")]


def write_part(
    path: Path, outcomes: Sequence[ImageOutcome], curves: Path | None = None, timing: Timing | None = None
) -> None:
    """Write a shard's boxes as rows and its images' outcomes as metadata. Raises StorageError.

    curves: where their curves go; there before the part is, so that where there is a part there are its curves.
    timing: what mining them took, to which writing is added but for the last step, in which the file gets its name.
    """
    began = time.perf_counter()
    if curves is not None:
        with _written([row for outcome in outcomes for row in outcome.curves], CURVE_SCHEMA, curves):
            pass
    images = [{k: getattr(outcome, k) for k in _TOLD} for outcome in outcomes]
    schema = PART_SCHEMA.with_metadata({_IMAGES: orjson.dumps(images)})
    with _written([row for outcome in outcomes for row in outcome.boxes], schema, path) as writer:
        if timing is not None:
            timed = timing.with_writing(time.perf_counter() - began)
            writer.add_key_value_metadata({_TIMING: orjson.dumps(asdict(timed))})


@contextmanager
def _written(rows: list[dict[str, Any]], schema: pa.Schema, path: Path) -> Iterator[pq.ParquetWriter]:
    with (
        whole_file(path) as temporary,
        pq.ParquetWriter(temporary, schema, compression="zstd", write_page_checksum=True) as writer,
    ):
        writer.write_table(pa.Table.from_pylist(rows, schema=schema))
        yield writer


def part_outcomes(path: Path) -> list[ImageOutcome] | None:
    """The images' outcomes without their boxes, or None when there is no readable part of this version's columns."""
    try:
        schema = pq.read_schema(path)
        outcomes = [ImageOutcome(**image) for image in orjson.loads(schema.metadata[_IMAGES])]
        return outcomes if schema.equals(PART_SCHEMA) else None
    except (OSError, pa.ArrowInvalid, KeyError, TypeError, ValueError):
        return None


def part_timing(path: Path) -> Timing | None:
    """What mining the part took, or None where that is not known."""
    try:
        return Timing(**orjson.loads(pq.read_metadata(path).metadata[_TIMING]))
    except (OSError, pa.ArrowInvalid, KeyError, TypeError, ValueError):
        return None


def done_outcomes(path: Path, curves: Path | None = None) -> list[ImageOutcome] | None:
    """What `part_outcomes` gives, None also where curves are wanted and cannot be read."""
    try:
        has_curves = curves is None or pq.read_schema(curves).equals(CURVE_SCHEMA)
    except (OSError, pa.ArrowInvalid):
        has_curves = False
    return part_outcomes(path) if has_curves else None


def is_done(path: Path, curves: Path | None = None) -> bool:
    """Whether the part can be read, and its curves where they are wanted."""
    return done_outcomes(path, curves) is not None


def is_sound(path: Path, curves: Path | None = None) -> bool:
    """Whether every byte of the part, and of its curves where they are wanted, is as it was written."""
    try:
        files = [(path, PART_SCHEMA)] + ([] if curves is None else [(curves, CURVE_SCHEMA)])
        for file, schema in files:
            next(tables_of([file], schema))
    except DamagedPartError:
        return False
    return is_done(path, curves)


@contextmanager
def gathered(out: Path, schema: pa.Schema) -> Iterator[Callable[[pa.Table], None]]:
    """Give a function that adds a piece to the table `out`, which appears when the block ends well, or not at all.

    Small pieces share a row group: what a Parquet writer keeps in memory, and every reader reads first, grows with the
    number of row groups. Raises StorageError.
    """
    pieces: list[pa.Table] = []
    rows = 0
    with whole_file(out) as temporary, pq.ParquetWriter(temporary, schema, compression="zstd") as writer:

        def add(piece: pa.Table) -> None:
            nonlocal rows
            if len(piece):
                pieces.append(piece)
                rows += len(piece)
            if rows >= ROWS_OF_A_GROUP or len(pieces) >= PIECES_OF_A_GROUP:
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
    """Write all parts as one table with running annotation ids; gives the number of boxes.

    Raises DamagedPartError, and StorageError.
    """
    written = 0
    with gathered(out, ANNOTATION_SCHEMA) as add:
        for table in tables_of(parts, PART_SCHEMA):
            ids = pa.array(range(written + 1, written + 1 + len(table)), pa.int64())
            add(table.add_column(0, ANNOTATION_SCHEMA.field(0), ids).cast(ANNOTATION_SCHEMA))
            written += len(table)
    return written


def merge_curves(parts: Sequence[Path], out: Path) -> None:
    """Write the curves of all shards as one table. Raises what `merge_parts` raises."""
    with gathered(out, CURVE_SCHEMA) as add:
        for table in tables_of(parts, CURVE_SCHEMA):
            add(table)


def tables_of(parts: Sequence[Path], schema: pa.Schema) -> Iterator[pa.Table]:
    """The rows of each part; raises DamagedPartError."""
    for part in parts:
        try:
            with pq.ParquetFile(part, page_checksum_verification=True) as file:
                yield file.read().cast(schema)
        except (OSError, ValueError, pa.ArrowException):
            raise DamagedPartError(part) from None
