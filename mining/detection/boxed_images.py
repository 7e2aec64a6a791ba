"""Images with boxes, as detectors are trained on them."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from mining.arrays import Floats, Ints


def _no_boxes() -> Floats:
    return np.zeros((0, 4), np.float32)


@dataclass(frozen=True)
class BoxedImage:
    """An image and what is known of the objects in it.

    Attributes:
        path: The image file.
        content_hash: SHA-256 of the file, 64 hex digits; None accepts any content.
        boxes: (n, 4) float32 xyxy, half-open, in px of the oriented image.
        classes: (n,) int, index of each box's class.
        weights: (n,) float in 0-1; 1 for a true box, see `DetectionTarget`.
        ignored: (m, 4) float32 xyxy, regions that are neither object nor background.
    """

    path: Path
    content_hash: str | None
    boxes: Floats
    classes: Ints
    weights: Floats
    ignored: Floats = field(default_factory=_no_boxes)

    def __post_init__(self) -> None:
        count = len(self.boxes)
        if np.shape(self.boxes) != (count, 4) or np.shape(self.ignored) != (len(self.ignored), 4):
            raise ValueError(f"{self.path}: boxes and ignored regions must be (n, 4).")
        if np.shape(self.classes) != (count,) or np.shape(self.weights) != (count,):
            raise ValueError(f"{self.path}: {count} boxes need as many classes and weights.")


def digest_images(images: Sequence[BoxedImage]) -> str:
    """Return the SHA-256 of what a training learns from: paths, contents as far as they are known, and boxes."""
    digest = hashlib.sha256()
    for image in images:
        digest.update(f"{image.path}\0{image.content_hash}\0{len(image.boxes)}\0{len(image.ignored)}\0".encode())
        for values in (image.boxes, image.classes, image.weights, image.ignored):
            digest.update(np.ascontiguousarray(values, np.float64).tobytes())
    return digest.hexdigest()
