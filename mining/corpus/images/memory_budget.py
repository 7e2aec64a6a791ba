"""Bound the memory of the images that all threads of a process decode at the same time."""

import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

from PIL import Image

from mining.corpus.images.image_file import check_stopped
from mining.corpus.images.pixel_values import has_deep_colour
from mining.errors import ImageError

DECODED_BYTES = 1_500_000_000  # the same on every machine, because it decides which images are quarantined
_RGB, _COPY = 3, 4  # bytes per pixel
_BYTES_IN_PILLOW = {"1": 1, "L": 1, "P": 1, "I;16": 2, "I;16B": 2, "I;16L": 2, "I;16N": 2}  # others 4
_WAIT_SECONDS = 0.2
# TIFF tags
_WIDTH, _LENGTH, _ROWS, _TILE_WIDTH, _TILE_LENGTH = 256, 257, 278, 322, 323


class MemoryBudget:
    """Bytes that threads reserve before they decode; a thread that needs more than is left waits for the others.

    Args:
        limit: The budget in bytes.

    Attributes:
        turns: A lock that several processes share, so that only one of them at a time decodes images that need more
            than an eighth of the budget; None for a single process.
    """

    def __init__(self, limit: int = DECODED_BYTES) -> None:
        self.limit = limit
        self.turns: AbstractContextManager[Any] | None = None
        self._used = 0
        self._changed = threading.Condition()

    @contextmanager
    def reserve(self, count: int) -> Iterator[None]:
        """Reserve bytes while the block runs.

        Args:
            count: Number of bytes, at most `limit`.

        Raises:
            RunStoppedError: The thread is to stop while it waits.
        """
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
    """Estimate the peak memory of decoding an image until it is resized, from its header alone.

    It counts the file (twice while it is read), the buffers of the format's decoder, and the RGB pixels together with
    Pillow's pixels or a rotated or resized copy.

    Args:
        image: The opened image, set to the size at which it is decoded.
        whole: Its full size.
        file_bytes: Size of the file.

    Returns:
        Bytes.
    """
    in_pillow = 8 if has_deep_colour(image) else _BYTES_IN_PILLOW.get(image.mode, 4)
    pixels = image.width * image.height * (_RGB + max(in_pillow, _COPY))
    return max(2 * file_bytes, file_bytes + pixels + _decoder_bytes(image, whole[0] * whole[1]))


def _decoder_bytes(image: Image.Image, pixels: int) -> int:
    channels = len(image.getbands())
    if image.format in ("JPEG", "MPO"):  # a progressive JPEG keeps all coefficients in memory
        return 2 * channels * pixels if image.info.get("progressive") else 0
    if image.format == "TIFF":
        return _tiff_block(image) * 2 * channels
    # WebP, AVIF and HEIF keep planes and a canvas and return a copy; JPEG 2000 computes with 32 bits per channel
    return {"WEBP": 12, "AVIF": 12, "HEIF": 12, "JPEG2000": 8 * channels}.get(image.format or "", 0) * pixels


def _tiff_block(image: Image.Image) -> int:
    """Pixels of a strip or tile, which is decoded as a whole; the header of a small image may state a huge one."""
    tags = image.tag_v2  # type: ignore[attr-defined]
    if _TILE_WIDTH in tags:
        return int(tags[_TILE_WIDTH]) * int(tags.get(_TILE_LENGTH, 1))
    return int(tags[_WIDTH]) * min(int(tags.get(_ROWS, tags[_LENGTH])), int(tags[_LENGTH]))


def check_decode_bytes(path: object, count: int, limit: int) -> None:
    """Check that a single image does not need more than the budget.

    Raises:
        ImageError: It does.
    """
    if count > limit:
        raise ImageError(
            f"{path}: decoding needs about {count / 1e9:.1f} GB of memory, more than the limit of {limit / 1e9:g} GB. "
            "Reduce the image."
        )


def share_across_processes(turns: AbstractContextManager[Any], _worker: int = 0) -> None:
    """Share the budget of this process with others, at the start of a data loader's worker.

    Args:
        turns: A lock that the processes share.
    """
    BUDGET.turns = turns


BUDGET = MemoryBudget()
# the C library does not return Pillow's default blocks of 16 MB to the system when they are freed, but larger ones
Image.core.set_block_size(64 * 1024 * 1024)  # type: ignore[attr-defined]
