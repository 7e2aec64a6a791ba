"""The corpus table: one row an image that was asked for."""

import pyarrow as pa

PENDING = "pending"
LABELLED = "labelled"
NO_REGION = "no_region"
LOW_SCORE = "low_score"
FILTERED = "filtered"
QUARANTINED = "quarantined"

STATES = {
    PENDING: "not looked at yet",
    LABELLED: "has at least one accepted box",
    NO_REGION: "no class was asked for or predicted, or no region of its maps passed the threshold",
    LOW_SCORE: "regions were found, and all scored below the cut",
    FILTERED: "regions were found, and all were filtered out by size or shape",
    QUARANTINED: "could not be read; the reason is in quarantine.parquet",
}


def _field(name: str, kind: pa.DataType, meaning: str, *, nullable: bool = True) -> pa.Field:
    return pa.field(name, kind, nullable=nullable, metadata={"meaning": meaning})


CORPUS_SCHEMA = pa.schema(
    [
        _field(
            "image_id",
            pa.int64(),
            "unique in the corpus; the COCO id where the listing has one, else 1, 2, ...",
            nullable=False,
        ),
        _field("file_name", pa.string(), "path below the image root, '/' between its parts, unique", nullable=False),
        _field("width", pa.int32(), "pixels, EXIF orientation applied; null until the listing or a decode told it"),
        _field("height", pa.int32(), "pixels, EXIF orientation applied; null until the listing or a decode told it"),
        _field(
            "labels",
            pa.list_(pa.string()),
            "class names known to be in the image; null = not known, empty = known to have none",
        ),
        _field("split", pa.string(), "train, test, ... where the listing says so"),
        _field("bytes", pa.int64(), "size of the file; null where the file is missing"),
        _field("content_hash", pa.string(), "SHA-256 of the file, 64 hex digits; null unless it was asked for"),
        _field(
            "state", pa.string(), "; ".join(f"{name} = {meaning}" for name, meaning in STATES.items()), nullable=False
        ),
    ]
)

QUARANTINE_SCHEMA = pa.schema(
    [
        _field("image_id", pa.int64(), "as in corpus.parquet", nullable=False),
        _field("file_name", pa.string(), "path below the image root", nullable=False),
        _field("reason", pa.string(), "why it could not be used, and what to do", nullable=False),
    ]
)


CORPUS_FILE = "corpus.parquet"
