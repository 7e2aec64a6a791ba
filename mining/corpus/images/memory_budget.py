"""A bound on the memory of the images that are decoded at one time, over all threads of a process."""

import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

from PIL import Image

from mining.corpus.images.image_file import check_stopped
from mining.corpus.images.pixel_values import has_deep_colour
from mining.errors import ImageError

DECODED_BYTES = 1_500_000_000  # the same on every machine: which images are quarantined must not depend on it
_RGB, _COPY = 3, 4  # bytes a pixel
_IN_PILLOW = {"1": 1, "L": 1, "P": 1, "I;16": 2, "I;16B": 2, "I;16L": 2, "I;16N": 2}  # others 4
_WAIT_SECONDS = 0.2
_WIDTH, _LENGTH, _ROWS, _TILE_WIDTH, _TILE_LENGTH = 256, 257, 278, 322, 323


class MemoryBudget:
    """Bytes that threads reserve before they decode; who finds too few left waits for others to finish.

    turns: a lock that several processes share, each of which has threads of its own; None for a single process. They
    take turns with images that need more than an eighth of the budget.
    """

    def __init__(self, limit: int = DECODED_BYTES) -> None:
        self.limit = limit
        self.turns: AbstractContextManager[Any] | None = None
        self._used = 0
        self._changed = threading.Condition()

    @contextmanager
    def reserve(self, count: int) -> Iterator[None]:
        """Hold `count` bytes while the block runs; at most `limit`. Raises RunStoppedError when stopped meanwhile."""
        with self._changed:
            while self._used and self._used + count > self.limit:
                self._changed.wait(_WAIT_SECONDS)
                check_stopped()
            self._used += count
        try:
            with self.turns if self.turns is not None and count > self.limit // 8 else nullcontext():
                yield
        finally:
            with self._changed:
                self._used -= count
                self._changed.notify_all()


def estimate_decode_bytes(image: Image.Image, whole: tuple[int, int], file_bytes: int) -> int:
    """About the most memory that an opened image takes until it is resized, from its header alone.

    The file (twice while it is read), what the format's decoder keeps for itself, and RGB beside Pillow's pixels or a
    copy that is turned or resized.
    whole: the image's own size, where it is to be decoded at a smaller one.
    """
    in_pillow = 8 if has_deep_colour(image) else _IN_PILLOW.get(image.mode, 4)
    pixels = image.width * image.height * (_RGB + max(in_pillow, _COPY))
    return max(2 * file_bytes, file_bytes + pixels + _of_decoder(image, whole[0] * whole[1]))


def _of_decoder(image: Image.Image, pixels: int) -> int:
    channels = len(image.getbands())
    if image.format in ("JPEG", "MPO"):  # all coefficients of a progressive one are held at once
        return 2 * channels * pixels if image.info.get("progressive") else 0
    if image.format == "TIFF":
        return _tiff_block(image) * 2 * channels
    # WebP, AVIF and HEIF keep planes and a canvas, and hand over a copy; JPEG 2000 computes with 32 bits a channel
    return {"WEBP": 12, "AVIF": 12, "HEIF": 12, "JPEG2000": 8 * channels}.get(image.format or "", 0) * pixels


def _tiff_block(image: Image.Image) -> int:
    """Pixels of a strip or a tile, which is decoded as a whole; a small image may claim huge ones."""
    tags = image.tag_v2  # type: ignore[attr-defined]
    if _TILE_WIDTH in tags:
        return int(tags[_TILE_WIDTH]) * int(tags.get(_TILE_LENGTH, 1))
    return int(tags[_WIDTH]) * min(int(tags.get(_ROWS, tags[_LENGTH])), int(tags[_LENGTH]))


def check_decode_bytes(path: object, count: int, limit: int) -> None:
    """Raise ImageError for an image that alone takes more than the budget."""
    if count > limit:
        raise ImageError(
            f"{path}: decoding it takes about {count / 1e9:.1f} GB of memory, more than {limit / 1e9:g} GB; "
            "reduce the image first."
        )


def share_across_processes(turns: AbstractContextManager[Any], _worker: int = 0) -> None:
    """Let this process share its budget with others, as a worker of a data loader begins."""
    BUDGET.turns = turns


BUDGET = MemoryBudget()
# Pillow's blocks of 16 MB are kept by the C library when they are freed, up to an image a thread; larger ones are not
Image.core.set_block_size(64 * 1024 * 1024)  # type: ignore[attr-defined]
