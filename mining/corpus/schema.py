"""Columns of the corpus table, which has one row per image."""

import pyarrow as pa

PENDING = "pending"
LABELLED = "labelled"
NO_CLASS = "no_class"
NO_REGION = "no_region"
LOW_SCORE = "low_score"
FILTERED = "filtered"
NO_BOX = "no_box"
QUARANTINED = "quarantined"

STATES = {
    PENDING: "not mined yet",
    LABELLED: "has at least one accepted box",
    NO_CLASS: "no class is listed for it, or none was predicted with the minimum class probability",
    NO_REGION: "no region of its activation maps passed the threshold",
    LOW_SCORE: "regions were found, but all scored below the minimum score",
    FILTERED: "regions were found, but all were removed by a filter: size, shape, or the number of runs that found them",
    NO_BOX: "the imported file has no usable box for it, or people rejected all of its boxes",
    QUARANTINED: "could not be used; the reason is in quarantine.parquet",
}


def _field(name: str, kind: pa.DataType, meaning: str, *, nullable: bool = True) -> pa.Field:
    return pa.field(name, kind, nullable=nullable, metadata={"meaning": meaning})


CORPUS_SCHEMA = pa.schema(
    [
        _field(
            "image_id",
            pa.int64(),
            "unique in the corpus; the COCO id if the listing has ids, else 1, 2, ...",
            nullable=False,
        ),
        _field(
            "file_name", pa.string(), "path relative to the image root, with '/' as separator; unique", nullable=False
        ),
        _field(
            "width", pa.int32(), "pixels, after EXIF orientation; null until known from the listing or from decoding"
        ),
        _field(
            "height", pa.int32(), "pixels, after EXIF orientation; null until known from the listing or from decoding"
        ),
        _field(
            "labels",
            pa.list_(pa.string()),
            "names of the classes in the image; null = not known, empty = known to have none of the classes",
        ),
        _field("split", pa.string(), "name of the split, e.g. train, if the listing has splits"),
        _field("bytes", pa.int64(), "size of the file in bytes; null if the file is missing"),
        _field("content_hash", pa.string(), "SHA-256 of the file, 64 hex digits; null if it was not computed"),
        _field(
            "state", pa.string(), "; ".join(f"{name} = {meaning}" for name, meaning in STATES.items()), nullable=False
        ),
    ]
)

QUARANTINE_SCHEMA = pa.schema(
    [
        _field("image_id", pa.int64(), "as in corpus.parquet", nullable=False),
        _field("file_name", pa.string(), "path relative to the image root", nullable=False),
        _field("reason", pa.string(), "why the image could not be used, and what to do", nullable=False),
    ]
)


CORPUS_FILE = "corpus.parquet"
