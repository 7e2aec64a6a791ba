"""What a system refuses, and what no record can hold, in the words of our errors."""

import os
from collections.abc import Sequence

from mining.config.checks import check_storable
from mining.errors import BoxmineError, InputError


def describe_os_error(error: OSError) -> BoxmineError:
    """The error that a person sees where the system refused a file or folder.

    Raises the error itself where it names no file, for then nobody could do anything about it.
    """
    if error.filename is None:
        raise error
    name = os.fsdecode(error.filename) if isinstance(error.filename, str | bytes) else str(error.filename)
    shown = os.fsencode(name).decode("utf-8", "backslashreplace")
    return InputError(
        f"Cannot use {shown[:300]}: {error.strerror or type(error).__name__}. Give another path, or allow access."
    )


def check_arguments(words: Sequence[str]) -> None:
    """Raises InputError for a word of a command line that no record takes, or that holds a password."""
    for word in words:
        try:
            check_storable(word)
            check_storable(word.partition("=")[2])
        except ValueError as error:
            shown = os.fsencode(word).decode("utf-8", "backslashreplace")
            raise InputError(f"{shown!r:.300} cannot be used: {error}.") from None
