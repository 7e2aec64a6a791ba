"""Embed the SHA-256 of a Parquet file in its own footer, and verify it.

The digest covers the whole file, footer included, with zeros in the place of the digest itself. One file, which appears
by a rename, is therefore enough to detect any changed bit; no second file with a checksum is needed.
"""

import hashlib
import os
from pathlib import Path
from typing import BinaryIO

_KEY = "boxmine.seal"
_PREFIX = b"boxmine-sha256:"
_DIGITS = 64
_ZEROS = b"0" * _DIGITS
PLACEHOLDER = {_KEY: _PREFIX + _ZEROS}
"""Key-value metadata that reserves the space of the digest; to be added to the footer before it is written."""

# Key and value as Thrift encodes them, each after its length. Only JSON and base64 follow them in the footer, which
# have no such control characters: the last match in the file is the digest, whatever file names the table holds.
_MARKER = b"\x0c" + _KEY.encode() + b"\x18\x4f" + _PREFIX
_CHUNK_BYTES = 1 << 20


def embed_digest(path: Path) -> None:
    """Write the digest of a finished Parquet file into the space that `PLACEHOLDER` reserved in its footer."""
    with path.open("r+b") as file:
        offset = _find_digest(file)
        assert offset is not None
        digest = _sha256_with_zeros(file, offset)
        file.seek(offset)
        file.write(digest)


def embedded_digest_matches(path: Path) -> bool | None:
    """Whether a file still has the content that its embedded digest was computed from.

    Args:
        path: A Parquet file.

    Returns:
        None for a file without an embedded digest.

    Raises:
        OSError: The file cannot be read.
    """
    with path.open("rb") as file:
        offset = _find_digest(file)
        if offset is None:
            return None
        digest = _sha256_with_zeros(file, offset)
        file.seek(offset)
        return file.read(_DIGITS) == digest


def _find_digest(file: BinaryIO) -> int | None:
    """Offset of the digest. Does not rely on the footer's length field, which may be what is damaged."""
    end = size = file.seek(0, os.SEEK_END)
    while end > 0:
        start = max(0, end - _CHUNK_BYTES)
        file.seek(start)
        position = file.read(end - start).rfind(_MARKER)
        if position >= 0:
            offset = start + position + len(_MARKER)
            return offset if offset + _DIGITS <= size else None
        end = start + len(_MARKER) - 1 if start else 0  # a marker may lie across two chunks
    return None


def _sha256_with_zeros(file: BinaryIO, offset: int) -> bytes:
    """Hex digest of the file with zeros in place of the digest at `offset`."""
    sha256 = hashlib.sha256()
    file.seek(0)
    remaining = offset
    while remaining and (chunk := file.read(min(_CHUNK_BYTES, remaining))):
        sha256.update(chunk)
        remaining -= len(chunk)
    sha256.update(_ZEROS)
    file.seek(offset + _DIGITS)
    while chunk := file.read(_CHUNK_BYTES):
        sha256.update(chunk)
    return sha256.hexdigest().encode()
