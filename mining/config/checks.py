"""Checks of single values, shared by all settings."""

import os
import reprlib
from pathlib import Path
from typing import Any

from mining.redaction import has_credentials, redact

_MAX_NAME_BYTES = 255
_MAX_PATH_BYTES = 4000
_short = reprlib.Repr()
_short.maxstring = _short.maxother = 200
_short.maxlevel = 3


def format_value(value: Any) -> str:
    """Format a value for a message: short, without passwords."""
    return redact(_short.repr(value) if not isinstance(value, str) else _short.repr(str(value)))


def check_storable(value: Any) -> None:
    """Raise ValueError for a text or path that cannot be stored in a file system or a record, or holds a password."""
    if not isinstance(value, str | Path):
        return
    text = str(value)
    if "\0" in text:
        raise ValueError("it holds a NUL character, which no path can have")
    _refuse_undecodable(_absolute(text) if isinstance(value, Path) else text)
    if has_credentials(text):
        raise ValueError(
            "it holds a user name or password, which would be kept in records and logs; leave them out of the address "
            "and set them in the environment (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, ...)"
        )
    if isinstance(value, Path):
        longest = max((len(os.fsencode(part)) for part in value.parts), default=0)
        if longest > _MAX_NAME_BYTES or len(os.fsencode(text)) > _MAX_PATH_BYTES:
            raise ValueError(f"a file name has {_MAX_NAME_BYTES} bytes at most, a path {_MAX_PATH_BYTES}")


def _absolute(path: str) -> str:
    try:
        return os.path.abspath(path)
    except FileNotFoundError:
        raise ValueError("the working directory does not exist any more; change to one that does") from None


def _refuse_undecodable(text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError:
        name = os.fsencode(text).decode("utf-8", "backslashreplace")
        raise ValueError(
            f"{name} is not valid UTF-8, so it cannot be kept in records; rename the folder or file"
        ) from None


def check_range(settings: Any, least: str, most: str) -> None:
    """Raise ValueError if both limits are set and the lower one is above the upper one."""
    low, high = getattr(settings, least), getattr(settings, most)
    if low is not None and high is not None and low > high:
        raise ValueError(f"`{least}` ({low:g}) is above `{most}` ({high:g}), so nothing would be left")
