"""Stream JSON files that other programs wrote: memory does not depend on the size of the file.

Labels and ground truth in JSON are read with `JSONFile`. Besides strict JSON it accepts what programs write: a byte
order mark, NaN and Infinity (read as null), and integers of any length (read as text if they do not fit 64 bits).
"""

import math
import re
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

import ijson

from mining.corpus.formats.parsing import label_file_errors
from mining.errors import CorpusError
from mining.storage.untrusted_files import DepthLimitedReader, JSONNestingError, open_input

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_ESCAPED = re.compile(rb"\\.", re.DOTALL)
# tokens that parsers refuse: NaN, Infinity, more digits than 64 bits hold, an exponent of three digits
_NON_STANDARD = re.compile(
    rb"(?<![-+.0-9A-Za-z\\])[-+]?(?:NaN|Infinity|nan|inf|\d{19,}|\d+(?:\.\d+)?[eE]\+?\d{3,})(?![-+.0-9A-Za-z])"
)
_WORD_BYTES = b"-+.0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz\\"
_MAX_TOKEN_BYTES = 1000


class JSONFile:
    """A JSON file that another program wrote.

    Args:
        path: The file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._is_strict = True
        self._is_known_shallow = False  # after it was read to its end once

    def items(self, key: str) -> Iterator[Any]:
        """Read the entries of the list under a key of the file's object; none if there is no such list.

        Raises:
            CorpusError: The file cannot be read, is not valid JSON, or is nested too deeply.
        """
        given = 0
        if self._is_strict:
            try:
                with _nesting_errors(self.path), self._opened() as file:
                    items = ijson.items(file, self._prefix(key), use_float=True)
                    for given, item in enumerate(items, start=1):  # noqa: B007
                        yield item
                self._is_known_shallow = True
                return
            except ijson.JSONError:
                # only a file that the strict parser refuses takes the slower way, continuing at the entry that failed
                self._is_strict = False
        with _json_errors(self.path), self._opened() as file:
            yield from islice(ijson.items(file, self._prefix(key), use_float=True), given, None)

    def keys(self) -> dict[str, str] | None:
        """Read the keys of the file's object with the kind of each value: 'list', 'object', 'null' or 'value'.

        Returns:
            None if the file does not contain an object.

        Raises:
            CorpusError: As for `items`.
        """
        kinds = {"start_array": "list", "start_map": "object", "null": "null"}
        keys: dict[str, str] | None = None
        key = ""
        self._is_strict = False
        with _json_errors(self.path), self._opened() as file:
            for prefix, event, value in ijson.parse(file, use_float=True):
                if keys is None:
                    if event != "start_map":
                        return None
                    keys = {}
                elif prefix == "" and event == "map_key":
                    key = value
                elif prefix and prefix == key:
                    keys.setdefault(key, kinds.get(event, "value"))
        return keys

    def is_list(self) -> bool:
        """Whether the file holds a list. Raises CorpusError as `items` does."""
        self._is_strict = False
        with _json_errors(self.path), self._opened() as file:
            return next(ijson.parse(file))[1] == "start_array"

    def _prefix(self, key: str) -> str:
        """What ijson calls the entries of the list under a key."""
        return f"{key}.item"

    @contextmanager
    def _opened(self) -> Iterator[Any]:
        with label_file_errors(self.path), open_input(self.path) as file:
            if file.read(3) != _BYTE_ORDER_MARK:
                file.seek(0)
            text = file if self._is_strict else _StrictJSON(file)
            yield text if self._is_known_shallow else DepthLimitedReader(text)  # type: ignore[arg-type]


class JSONListFile(JSONFile):
    """A JSON file that holds a list alone: its entries are those of every key."""

    def is_list(self) -> bool:
        """Whether the file holds a list. Raises CorpusError as `items` does."""
        self._is_strict = False
        with _json_errors(self.path), self._opened() as file:
            return next(ijson.parse(file))[1] == "start_array"

    def _prefix(self, key: str) -> str:
        return "item"


@contextmanager
def _json_errors(path: Path) -> Iterator[None]:
    with _nesting_errors(path):
        try:
            yield
        except ijson.JSONError as error:
            text = error.args[0] if error.args else ""
            text = text.decode(errors="replace") if isinstance(text, bytes) else str(text)
            reason = " ".join(text.split())[:120]
            raise CorpusError(f"{path} is not valid JSON ({reason}). Is the file complete?") from error


@contextmanager
def _nesting_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except (JSONNestingError, RecursionError) as error:
        raise CorpusError(f"{path} is not valid JSON ({error}). Is the file complete?") from error


class _StrictJSON:
    """A binary JSON file whose non-standard tokens, outside of strings, are rewritten to standard JSON."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._is_in_string = False
        self._kept = b""  # the end of the last chunk, which may be part of a token

    def read(self, size: int = -1) -> bytes:
        """Read about `size` bytes; b'' at the end of the file only."""
        while True:
            data = self._file.read(size)
            text = self._kept + data
            kept = len(text) - len(text.rstrip(_WORD_BYTES)) if data else 0
            self._kept = text[len(text) - kept :] if kept < _MAX_TOKEN_BYTES else _half_escape(text)
            text = self._rewritten(text[: len(text) - len(self._kept)])
            if text or not data:
                return text

    def _rewritten(self, text: bytes) -> bytes:
        pieces = []
        start = 0
        for found in _NON_STANDARD.finditer(text):
            self._track(text[start : found.start()])
            pieces.append(text[start : found.start()])
            pieces.append(found.group() if self._is_in_string else _finite(found.group()))
            start = found.end()
        self._track(text[start:])
        pieces.append(text[start:])
        return b"".join(pieces)

    def _track(self, text: bytes) -> None:
        """Track where strings begin and end."""
        if b"\\" in text:
            text = _ESCAPED.sub(b"", text)
        self._is_in_string ^= text.count(b'"') % 2 == 1


def _half_escape(text: bytes) -> bytes:
    return b"\\" if (len(text) - len(text.rstrip(b"\\"))) % 2 else b""


def _finite(word: bytes) -> bytes:
    """Replace a number that JSON or 64 bits cannot hold: by null, or by its digits as text."""
    if word.lstrip(b"-").isdigit():
        return b'"' + word + b'"'
    try:
        return word if math.isfinite(float(word)) else b"null"
    except ValueError:
        return word  # not a number: the parser refuses it
