"""verdicts.parquet: the verdicts of a run as a table, for pandas and others."""

from collections.abc import Iterator
from typing import Any

import pyarrow as pa

from mining.quality.judgements import COMPLETE, MISSED, VERDICTS, ImageJudgement, Judgement
from mining.quality.verdicts import VerdictStore
from mining.runs.schema import described_field
from mining.storage.parquet import parquet_writer

VERDICTS_TABLE = "verdicts.parquet"

_SIDES = {"x": "left edge", "y": "top edge", "w": "width", "h": "height"}
_OF_WHAT = "of the box as it was mined, or of the missed object"


def _field(
    name: str, meaning: str, kind: pa.DataType | None = None, unit: str = "", *, nullable: bool = False
) -> pa.Field:
    return described_field(name, kind or pa.string(), unit, meaning, nullable=nullable)


VERDICT_SCHEMA = pa.schema(
    [
        _field("file_name", "as in corpus.parquet"),
        _field("content_hash", "SHA-256 of the image's file when it was judged", nullable=True),
        _field("annotation_id", "the box; null for an image and a missed object", pa.int64(), nullable=True),
        _field("category", f"class {_OF_WHAT}", nullable=True),
        *(_field(side, f"{name} {_OF_WHAT}", pa.float32(), "px", nullable=True) for side, name in _SIDES.items()),
        _field(
            "verdict",
            f"on a box: {', '.join(VERDICTS)}; on an image that was looked at whole: {COMPLETE}; on an object of it "
            f"without a correct box: {MISSED}",
        ),
        *(
            _field(f"new_{side}", f"{name} of the box as it was corrected", pa.float32(), "px", nullable=True)
            for side, name in _SIDES.items()
        ),
        _field("new_category", "class as it was corrected", nullable=True),
        _field("reviewer", "name"),
        _field("time", "ISO 8601, UTC"),
        _field("plan", "the plan that asked for it; empty if none did"),
        _field(
            "why",
            "random: drawn at random; suspicious: listed as doubtful; image: part of an image to be looked at whole; "
            "review: a person chose it in another tool; carried: carried over from another run",
        ),
    ]
)


def write_verdict_table(store: VerdictStore) -> None:
    """Write the last verdict of each reviewer on each box and image next to the record itself, atomically."""
    rows = [*map(_of_box, store.judgements()), *(row for one in store.image_judgements() for row in _of_image(one))]
    with parquet_writer(store.path.with_name(VERDICTS_TABLE), VERDICT_SCHEMA) as writer:
        writer.write_table(pa.Table.from_pylist(rows, schema=VERDICT_SCHEMA))


def _of_box(judgement: Judgement) -> dict[str, Any]:
    return {name: getattr(judgement, name) for name in VERDICT_SCHEMA.names}


def _of_image(judgement: ImageJudgement) -> Iterator[dict[str, Any]]:
    common = {
        "file_name": judgement.file_name, "content_hash": judgement.content_hash, "reviewer": judgement.reviewer,
        "time": judgement.time, "plan": judgement.plan, "why": "image" if judgement.plan else "review",
    }  # fmt: skip
    for one in judgement.missed:
        place = {} if one.xywh is None else dict(zip("xywh", one.xywh, strict=True))
        yield {**common, **place, "category": one.category, "verdict": MISSED}
    yield {**common, "verdict": COMPLETE}
