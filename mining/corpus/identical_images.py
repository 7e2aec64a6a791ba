"""Find images that are copies of one another: the same bytes under several names."""

import hashlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np

_HEAD_BYTES = 16_384


class ImageFile(NamedTuple):
    """An image file.

    Attributes:
        name: Path relative to the image root.
        path: Path of the file.
        content_hash: SHA-256 of the file, if known.
    """

    name: str
    path: Path
    content_hash: str | None = None


def map_copies_to_first(images: Callable[[], Iterable[ImageFile]]) -> dict[str, str]:
    """Map the name of each image that has copies to the name of the first of them, in the given order.

    Where hashes are not known, only files of the same size and the same first bytes are read completely. Memory: 8
    bytes per image, and the names of the copies.

    Args:
        images: Gives the images, in the same order at each call.

    Returns:
        Images without a copy, and those that cannot be read, are left out.
    """
    has_hashes = all(image.content_hash is not None for image in images())
    keys = np.fromiter((_key(image, has_hashes) for image in images()), np.uint64)
    values, counts = np.unique(keys, return_counts=True)
    copied = np.isin(keys, values[(counts > 1) & (values != 0)])
    if not copied.any():
        return {}
    names_of: dict[str, list[str]] = {}
    for image, is_candidate in zip(images(), copied.tolist(), strict=True):
        digest = (image.content_hash or _digest_of(image.path, None)) if is_candidate else None
        if digest is not None:
            names_of.setdefault(digest, []).append(image.name)
    return {name: names[0] for names in names_of.values() if len(names) > 1 for name in names}


def _key(image: ImageFile, has_hashes: bool) -> int:
    """A number that is equal for equal images; 0 for one that cannot be read."""
    digest = image.content_hash if has_hashes else _digest_of(image.path, _HEAD_BYTES)
    return 0 if digest is None else int(digest[:16], 16) or 1


def _digest_of(path: Path, head: int | None) -> str | None:
    """SHA-256 of a file, or of its size and first `head` bytes; None if it cannot be read."""
    try:
        if not path.is_file():
            return None
        with path.open("rb") as file:
            if head is None:
                return hashlib.file_digest(file, "sha256").hexdigest()
            return hashlib.sha256(b"%d|" % path.stat().st_size + file.read(head)).hexdigest()
    except OSError:
        return None
