"""Read the images of an import: whether each can be decoded, its size and its SHA-256."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import NamedTuple

from mining.config.execution import available_cores
from mining.errors import ImageError


class Picture(NamedTuple):
    """An image file.

    Attributes:
        width: Width in pixels, EXIF orientation applied; None if the image could not be decoded.
        height: Height in pixels.
        content_hash: SHA-256 of the file, if it could be read.
        reason: Why it cannot be used; None if it can.
    """

    width: int | None = None
    height: int | None = None
    content_hash: str | None = None
    reason: str | None = None


def read_pictures(root: Path, names: Sequence[str]) -> list[Picture]:
    """Decode images as mining does, JPEGs at an eighth of their size, and return what was found, in order."""
    with ThreadPoolExecutor(available_cores()) as pool:
        return list(pool.map(partial(_read, root), names))


def _read(root: Path, name: str) -> Picture:
    # imported here, because it imports torch, which refusing a file must not wait for
    from mining.corpus.images.decoding import decode_image, resolve_image_path

    digests: list[str] = []
    try:
        with decode_image(resolve_image_path(root, name), _one_pixel, keep_sha256=digests.append) as (_, size):
            return Picture(size[1], size[0], digests[0])
    except ImageError as error:
        return Picture(content_hash=digests[0] if digests else None, reason=str(error))


def _one_pixel(_height: int, _width: int) -> tuple[int, int]:
    """Require hardly any pixels."""
    return 1, 1
