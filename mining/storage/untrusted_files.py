"""Read files that other people or programs wrote, within bounds on waiting, memory and nesting.

Functions raise OSError or ValueError (including JSONNestingError), which each caller turns into a message of its own.
"""

import codecs
import errno
import io
import json
import os
import re
import stat
from collections.abc import Generator
from itertools import accumulate
from pathlib import Path
from typing import Any, BinaryIO

import orjson

MAX_JSON_DEPTH = 32  # COCO files need 6; a parser that tracks paths needs memory quadratic in the depth
MAX_LINE_BYTES = 1_000_000
MAX_XML_BYTES = 16_000_000  # the parsed tree takes up to fifty times as much memory
MAX_RECORD_BYTES = 256_000_000  # run.json, model.json and the like, which are a few kB large
_CHUNK_BYTES = 1 << 20
_KINDS = {
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFDIR: "a folder",
}
_ESCAPED = re.compile(rb"\\.", re.DOTALL)
_ONLY_BRACKETS = bytes(code for code in range(256) if chr(code) not in "[]{}")
_OPENING_TO_ONE = bytes.maketrans(b"[{]}", b"\1\1\0\0")


class JSONNestingError(ValueError):
    """A JSON text is nested deeper than MAX_JSON_DEPTH levels."""

    def __init__(self, message: str = f"nested deeper than {MAX_JSON_DEPTH} levels") -> None:
        super().__init__(message)


class LongLineError(ValueError):
    """A line of a text file is longer than MAX_LINE_BYTES."""


def open_input(path: Path) -> BinaryIO:
    """Open a regular file for reading; a named pipe is refused rather than waited for.

    Raises:
        OSError: The file is missing, cannot be opened, or is a named pipe, a device, a socket or a folder.
    """
    _check_kind(path.stat(), path, stat.S_IFREG)
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    return os.fdopen(descriptor, "rb")


def check_not_special_file(path: Path) -> None:
    """Check that a path is a regular file or a folder.

    Raises:
        OSError: It is missing, or is a named pipe, a device or a socket.
    """
    _check_kind(path.stat(), path, stat.S_IFREG, stat.S_IFDIR)


def _check_kind(status: os.stat_result, path: Path, *accepted: int) -> None:
    kind = stat.S_IFMT(status.st_mode)
    if kind not in accepted:
        raise OSError(errno.EINVAL, f"it is {_KINDS.get(kind, 'not a file')}, a regular file is needed", str(path))


def read_input(path: Path, limit: int | None = MAX_RECORD_BYTES) -> bytes:
    """Read the whole content of a regular file.

    Args:
        path: The file.
        limit: Most bytes; None reads a file of any size.

    Raises:
        OSError: The file cannot be read, is not a regular file, or is larger than `limit`.
    """
    with open_input(path) as file:
        size = os.fstat(file.fileno()).st_size
        if limit is not None and size > limit:
            raise OSError(errno.EFBIG, f"it has {size:,} bytes, more than the limit of {limit:,}", str(path))
        return file.read()


def iter_lines(path: Path, encoding: str = "utf-8-sig") -> Generator[str, None, None]:
    """Read the lines of a text file one by one, with their line ends.

    Raises:
        OSError: The file cannot be read or is not a regular file.
        UnicodeDecodeError: It is not text in this encoding.
        LongLineError: A line has more than MAX_LINE_BYTES characters.
    """
    with open_input(path) as file, io.TextIOWrapper(file, encoding=encoding, newline="") as text:
        number = 0
        while line := text.readline(MAX_LINE_BYTES):
            number += 1
            if len(line) == MAX_LINE_BYTES:
                raise LongLineError(f"line {number} is longer than {MAX_LINE_BYTES:,} characters")
            yield line


class DepthLimitedReader:
    """A binary JSON file for a streaming parser, whose `read` raises JSONNestingError for text nested too deeply.

    Args:
        file: The file to read from.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._depth = _Depth()

    def read(self, size: int = -1) -> bytes:
        """Read at most `size` bytes, all of them if negative."""
        data = self._file.read(size)
        self._depth.add(data)
        return data


class _Depth:
    """Nesting depth of the JSON text read so far; brackets in strings do not count."""

    def __init__(self) -> None:
        self._depth = 0
        self._is_in_string = False
        self._escape = b""

    def add(self, data: bytes) -> None:
        """Track further bytes. Raises JSONNestingError."""
        data = self._escape + data
        if b"\\" in data:
            data = _ESCAPED.sub(b"", data)
        self._escape = data[-1:] if data.endswith(b"\\") else b""
        pieces = data.split(b'"')
        outside = b"".join(pieces[self._is_in_string :: 2])
        self._is_in_string ^= len(pieces) % 2 == 0
        steps = outside.translate(_OPENING_TO_ONE, _ONLY_BRACKETS)
        depths = list(accumulate((2 * step - 1 for step in steps), initial=self._depth))
        self._depth = depths[-1]
        if max(depths) > MAX_JSON_DEPTH:
            raise JSONNestingError


def parse_json(text: bytes) -> Any:
    """Parse a JSON text; NaN, infinities and a byte order mark are accepted, because other programs write them.

    Raises:
        ValueError: The text is not JSON, or is nested too deeply.
    """
    depth = _Depth()
    for start in range(0, len(text), _CHUNK_BYTES):
        depth.add(text[start : start + _CHUNK_BYTES])
    try:
        return orjson.loads(text)
    except ValueError:
        return json.loads(text.removeprefix(codecs.BOM_UTF8))


def read_json(path: Path, limit: int | None = MAX_RECORD_BYTES) -> Any:
    """Read the value of a JSON file.

    Args:
        path: The file.
        limit: Most bytes; None reads a file of any size.

    Raises:
        OSError: The file cannot be read, is not a regular file, or is larger than `limit`.
        ValueError: It is not JSON, or is nested too deeply.
    """
    return parse_json(read_input(path, limit))
