"""The result of mining one image."""

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class ImageOutcome:
    """The result of mining one image.

    Attributes:
        image_id: Its id in the corpus table.
        file_name: Its path below the image root.
        state: Its state (see mining.corpus.schema).
        width: Width in px, EXIF orientation applied; None if unknown.
        height: Height in px.
        reason: Why it could not be used.
        boxes: Rows of PART_SCHEMA.
        curves: Rows of CURVE_SCHEMA.
        ranked: Category ids and probabilities of the most probable classes, highest first, for labelled images too.
        replaced: The file is not the one whose hash was listed.
        content_hash: SHA-256 of the decoded file.
    """

    image_id: int
    file_name: str
    state: str
    width: int | None
    height: int | None
    reason: str | None = None
    boxes: list[dict[str, Any]] = field(default_factory=list)
    curves: list[dict[str, Any]] = field(default_factory=list)
    ranked: list[tuple[int, float]] = field(default_factory=list)
    replaced: bool = False
    content_hash: str | None = None
