"""Columns of the label store: one row per box, and one row for an image without a box."""

import pyarrow as pa

from mining.corpus.schema import CORPUS_SCHEMA, STATES
from mining.runs.schema import ANNOTATION_SCHEMA

IMAGES_PER_BUCKET = 65_536
_REPEATED = ("image_id", "file_name", "width", "height", "model_sha256")


def _field(name: str, kind: pa.DataType, unit: str, meaning: str, *, nullable: bool = False) -> pa.Field:
    return pa.field(name, kind, nullable=nullable, metadata={"unit": unit, "meaning": meaning})


_IMAGE_FIELDS = [
    _field("bucket", pa.int32(), "", f"image_id // {IMAGES_PER_BUCKET}: the files that change together"),
    _field("corpus", pa.string(), "", "name of the corpus that the image belongs to"),
    _field(
        "image_id",
        pa.int64(),
        "",
        "unique in the store; an image keeps its id when it is renamed, changed or relabelled",
    ),
    _field("file_name", pa.string(), "", "path relative to the image folder, with '/' as separator"),
    _field(
        "content_hash",
        pa.string(),
        "",
        "SHA-256 of the file that was mined, 64 hex digits; null if it could not be read",
        nullable=True,
    ),
    _field("width", pa.int32(), "px", "size of the image, EXIF orientation applied", nullable=True),
    _field("height", pa.int32(), "px", "size of the image, EXIF orientation applied", nullable=True),
    pa.field("labels", pa.list_(pa.string()), metadata=CORPUS_SCHEMA.field("labels").metadata),
    _field("split", pa.string(), "", "train, test, ... if the listing gives it", nullable=True),
    _field("state", pa.string(), "", "; ".join(f"{name} = {meaning}" for name, meaning in STATES.items())),
    _field("reason", pa.string(), "", "why a quarantined image could not be used", nullable=True),
    _field("run", pa.string(), "", "name of the run directory in which the image was mined"),
    _field(
        "settings_sha256",
        pa.string(),
        "",
        "SHA-256 of the settings that it was mined with, which are in the version's record",
    ),
    _field("model_sha256", pa.string(), "", "SHA-256 of the model's weights file"),
]
_BOX_FIELDS = [
    pa.field(field.name, field.type, nullable=True, metadata=field.metadata)
    for field in ANNOTATION_SCHEMA
    if field.name not in _REPEATED
]
STORE_SCHEMA = pa.schema([*_IMAGE_FIELDS, *_BOX_FIELDS])
IMAGE_COLUMNS = [field.name for field in _IMAGE_FIELDS]
BOX_COLUMNS = [field.name for field in _BOX_FIELDS]
