"""Read files that other people or programs wrote, within bounds: no endless waiting, no memory out of proportion.

Errors are OSError or ValueError (JSONNestingError among them), which each caller turns into a sentence of its own.
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

MAX_JSON_DEPTH = 32  # COCO files need 6; parsers of paths need memory that grows with the square of the depth
MAX_LINE_BYTES = 1_000_000
MAX_XML_BYTES = 16_000_000  # a tree takes up to fifty times as much memory
MAX_RECORD_BYTES = 256_000_000  # run.json, model.json and the like, whose sizes are a few kB
_PIECE_BYTES = 1 << 20
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
    """A JSON text is nested deeper than any file of these formats."""

    def __init__(self, message: str = f"nested deeper than {MAX_JSON_DEPTH} levels") -> None:
        super().__init__(message)


class LongLineError(ValueError):
    """A line of a text file is longer than any line of these formats."""


def open_input(path: Path) -> BinaryIO:
    """Open a regular file for reading, without waiting for a writer where it is a named pipe.

    Raises OSError, also for what is not a regular file: a named pipe, a device, a socket, a folder.
    """
    _refuse_kind(path.stat(), path, stat.S_IFREG)
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    return os.fdopen(descriptor, "rb")


def check_not_special_file(path: Path) -> None:
    """Raises OSError where something is at the path that is neither a regular file nor a folder."""
    _refuse_kind(path.stat(), path, stat.S_IFREG, stat.S_IFDIR)


def _refuse_kind(found: os.stat_result, path: Path, *accepted: int) -> None:
    kind = stat.S_IFMT(found.st_mode)
    if kind not in accepted:
        raise OSError(errno.EINVAL, f"it is {_KINDS.get(kind, 'not a file')}, a regular file is needed", str(path))


def read_input(path: Path, limit: int | None = MAX_RECORD_BYTES) -> bytes:
    """The whole content of a regular file. Raises OSError where it is larger than `limit` bytes."""
    with open_input(path) as file:
        size = os.fstat(file.fileno()).st_size
        if limit is not None and size > limit:
            raise OSError(errno.EFBIG, f"it has {size:,} bytes, at most {limit:,} are expected", str(path))
        return file.read()


def iter_lines(path: Path, encoding: str = "utf-8-sig") -> Generator[str, None, None]:
    """The lines of a text file with their ends. Raises LongLineError for one of more than MAX_LINE_BYTES."""
    with open_input(path) as file, io.TextIOWrapper(file, encoding=encoding, newline="") as text:
        number = 0
        while line := text.readline(MAX_LINE_BYTES):
            number += 1
            if len(line) == MAX_LINE_BYTES:
                raise LongLineError(f"line {number} is longer than {MAX_LINE_BYTES:,} characters")
            yield line


class DepthLimitedReader:
    """A binary file of JSON for a streaming parser. Reading raises JSONNestingError before it is nested too deeply."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._depth = _Depth()

    def read(self, size: int = -1) -> bytes:
        """As of any file."""
        data = self._file.read(size)
        self._depth.add(data)
        return data


class _Depth:
    """How deeply the JSON seen so far is nested, strings left out."""

    def __init__(self) -> None:
        self._depth = 0
        self._is_in_string = False
        self._escape = b""

    def add(self, data: bytes) -> None:
        """Follow further bytes. Raises JSONNestingError."""
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
    """The value of a JSON text; NaN, infinities and a byte order mark are taken too, as other programs write them.

    Raises ValueError.
    """
    depth = _Depth()
    for start in range(0, len(text), _PIECE_BYTES):
        depth.add(text[start : start + _PIECE_BYTES])
    try:
        return orjson.loads(text)
    except ValueError:
        return json.loads(text.removeprefix(codecs.BOM_UTF8))


def read_json(path: Path, limit: int | None = MAX_RECORD_BYTES) -> Any:
    """The value that a JSON file holds. Raises OSError or ValueError."""
    return parse_json(read_input(path, limit))
