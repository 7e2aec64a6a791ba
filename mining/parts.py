"""Parts: the boxes and the image states of one shard, in one file that is there whole or not at all."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from mining.annotations.schema import ANNOTATION_SCHEMA
from mining.errors import RunError
from mining.files import whole_file

_IMAGES = b"boxmine.images"
PART_SCHEMA = pa.schema([column for column in ANNOTATION_SCHEMA if column.name != "annotation_id"])


@dataclass(frozen=True)
class ImageOutcome:
    """What became of one image: its state (see mining.corpus.schema), size in px, boxes, and why it failed."""

    image_id: int
    file_name: str
    state: str
    width: int | None
    height: int | None
    reason: str | None = None
    boxes: list[dict[str, Any]] = field(default_factory=list)  # rows of PART_SCHEMA


def write_part(path: Path, outcomes: Sequence[ImageOutcome]) -> None:
    """Write a shard's boxes as rows and its images' outcomes as metadata. Raises StorageError."""
    rows = [row for outcome in outcomes for row in outcome.boxes]
    images = [{k: v for k, v in asdict(outcome).items() if k != "boxes"} for outcome in outcomes]
    schema = PART_SCHEMA.with_metadata({_IMAGES: json.dumps(images, ensure_ascii=False).encode()})
    with whole_file(path) as temporary:
        pq.write_table(
            pa.Table.from_pylist(rows, schema=schema), temporary, compression="zstd", write_page_checksum=True
        )


def part_outcomes(path: Path) -> list[ImageOutcome] | None:
    """The images' outcomes without their boxes, or None when there is no readable part of this version's columns."""
    try:
        schema = pq.read_schema(path)
        outcomes = [ImageOutcome(**image) for image in json.loads(schema.metadata[_IMAGES])]
        return outcomes if schema.equals(PART_SCHEMA) else None
    except (OSError, pa.ArrowInvalid, KeyError, TypeError, ValueError):
        return None


def merge_parts(parts: Sequence[Path], out: Path) -> int:
    """Write all parts as one table with running annotation ids, one row group a part; gives the number of boxes.

    Raises RunError that names a damaged part, and StorageError.
    """
    written = 0
    with whole_file(out) as temporary, pq.ParquetWriter(temporary, ANNOTATION_SCHEMA, compression="zstd") as writer:
        for table in _tables(parts):
            ids = pa.array(range(written + 1, written + 1 + len(table)), pa.int64())
            writer.write_table(table.add_column(0, ANNOTATION_SCHEMA.field(0), ids).cast(ANNOTATION_SCHEMA))
            written += len(table)
    return written


def _tables(parts: Sequence[Path]) -> Iterator[pa.Table]:
    for part in parts:
        try:
            table = pq.read_table(part, schema=PART_SCHEMA, page_checksum_verification=True)
        except (OSError, pa.ArrowException):
            raise RunError(f"{part} is damaged; delete it and give the `boxmine mine` command again.") from None
        if len(table):
            yield table
