"""The result of mining one image."""

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class ImageOutcome:
    """What became of one image: its state (see mining.corpus.schema), size in px, boxes, and why it failed.

    ranked: category ids and probabilities of the surest classes, best first, whatever was known of the image.
    replaced: the file is not the one whose hash was listed. content_hash: SHA-256 of the file that was decoded.
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
    content_hash: str | None = None
