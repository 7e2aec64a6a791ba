"""JSON files of others, streamed: memory does not depend on the size of the file.

Everything that reads a label or truth file in JSON goes through `json_items`. Besides strict JSON it takes what
programs write all the same: a byte order mark, NaN and Infinity (read as null), whole numbers of any length (read as
text where they do not fit 64 bits).
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

import ijson

from mining.corpus.formats.files import readable
from mining.errors import CorpusError
from mining.untrusted import JSONNestingError, ShallowJSON, open_input

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_REST_OF_STRING = re.compile(rb'[^"\\]*+(?:\\.[^"\\]*+)*+"', re.DOTALL)
_WORD = re.compile(rb"[-+.0-9A-Za-z]+")
_WORD_AT_END = re.compile(rb"[-+.0-9A-Za-z]+\Z")
_NOT_FINITE = {b"NaN", b"-NaN", b"+NaN", b"Infinity", b"-Infinity", b"+Infinity", b"nan", b"-nan", b"inf", b"-inf"}
_LONGEST_INT64 = 18  # digits that always fit
_LONGEST_WORD = 1000


def json_items(path: Path, key: str) -> Iterator[Any]:
    """The entries of the list that stands under a key of the file's object; none where there is no such list.

    Raises CorpusError where the file cannot be read, is not JSON or is nested too deeply.
    """
    given = 0
    try:
        for item in _items(path, key, is_strict=True):
            yield item
            given += 1
    except ijson.JSONError:
        # the strict parser is fast; only a file that it refuses is read again, from the entry on that it stopped at
        with _json_errors(path):
            yield from islice(_items(path, key, is_strict=False), given, None)


def json_keys(path: Path) -> dict[str, str] | None:
    """The keys of the file's object with the kind of each value: 'list', 'object', 'null' or 'value'.

    None where the file holds something else than an object. Raises what `json_items` raises.
    """
    kinds = {"start_array": "list", "start_map": "object", "null": "null"}
    found: dict[str, str] | None = None
    key = ""
    with _json_errors(path), _opened(path, is_strict=False) as file:
        for prefix, event, value in ijson.parse(file, use_float=True):
            if found is None:
                if event != "start_map":
                    return None
                found = {}
            elif prefix == "" and event == "map_key":
                key = value
            elif prefix and prefix == key:
                found.setdefault(key, kinds.get(event, "value"))
    return found


def _items(path: Path, key: str, *, is_strict: bool) -> Iterator[Any]:
    with _nesting_errors(path), _opened(path, is_strict=is_strict) as file:
        yield from ijson.items(file, f"{key}.item", use_float=True)


@contextmanager
def _opened(path: Path, *, is_strict: bool) -> Iterator[Any]:
    with readable(path), open_input(path) as file:
        if file.read(3) != _BYTE_ORDER_MARK:
            file.seek(0)
        yield ShallowJSON(file if is_strict else _StrictJSON(file))  # type: ignore[arg-type]


@contextmanager
def _json_errors(path: Path) -> Iterator[None]:
    with _nesting_errors(path):
        try:
            yield
        except ijson.JSONError as error:
            said = error.args[0] if error.args else ""
            said = said.decode(errors="replace") if isinstance(said, bytes) else str(said)
            reason = " ".join(said.split())[:120]
            raise CorpusError(f"{path} is not valid JSON ({reason}). Is the file complete?") from error


@contextmanager
def _nesting_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except (JSONNestingError, RecursionError) as error:
        raise CorpusError(f"{path} is not valid JSON ({error}). Is the file complete?") from error


class _StrictJSON:
    """A binary file of JSON whose numbers and words, outside of strings, are rewritten to what a parser takes."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._is_in_string = False
        self._kept = b""  # the end of what was read, which may go on

    def read(self, size: int = -1) -> bytes:
        """About as many bytes as asked for; b'' at the end of the file only."""
        while True:
            data = self._file.read(size)
            text = self._rewritten(self._kept + data, is_last=not data)
            if text or not data:
                return text

    def _rewritten(self, text: bytes, *, is_last: bool) -> bytes:
        pieces: list[bytes] = []
        start = 0
        self._kept = b""
        while start < len(text):
            end = self._end_of_string(text, start) if self._is_in_string else text.find(b'"', start)
            if end < 0:
                piece = text[start:]
                if not is_last:
                    self._kept = self._open_end(piece)
                    piece = piece[: len(piece) - len(self._kept)]
                pieces.append(piece if self._is_in_string else _WORD.sub(_finite, piece))
                break
            pieces.append(text[start:end] if self._is_in_string else _WORD.sub(_finite, text[start:end]))
            pieces.append(b'"')
            self._is_in_string = not self._is_in_string
            start = end + 1
        return b"".join(pieces)

    def _open_end(self, piece: bytes) -> bytes:
        """What cannot be understood without the bytes that follow: half an escape, or half a word."""
        if self._is_in_string:
            trailing = len(piece) - len(piece.rstrip(b"\\"))
            return b"\\" if trailing % 2 else b""
        found = _WORD_AT_END.search(piece)
        return found.group() if found and len(found.group()) < _LONGEST_WORD else b""

    @staticmethod
    def _end_of_string(text: bytes, start: int) -> int:
        found = _REST_OF_STRING.match(text, start)
        return found.end() - 1 if found else -1


def _finite(found: "re.Match[bytes]") -> bytes:
    word = found.group()
    if word in _NOT_FINITE:
        return b"null"
    digits = word.lstrip(b"-")
    if digits.isdigit() and len(digits) > _LONGEST_INT64:
        return b'"' + word + b'"'
    if b"e" in word.lower() and word[-1:].isdigit():
        return word if _is_finite(word) else b"null"
    return word


def _is_finite(word: bytes) -> bool:
    try:
        return abs(float(word)) != float("inf")
    except ValueError:
        return True  # not a number; for the parser to refuse
