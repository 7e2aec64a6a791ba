"""Turn errors of the operating system, and arguments that cannot be stored, into errors with a remedy."""

import os
from collections.abc import Sequence

from mining.config.checks import check_storable
from mining.errors import BoxmineError, InputError


def describe_os_error(error: OSError) -> BoxmineError:
    """Return an error that names the file or folder the system refused.

    Raises:
        OSError: The error itself, if it names no file.
    """
    if error.filename is None:
        raise error
    name = os.fsdecode(error.filename) if isinstance(error.filename, str | bytes) else str(error.filename)
    shown = os.fsencode(name).decode("utf-8", "backslashreplace")
    return InputError(
        f"Cannot use {shown[:300]}: {error.strerror or type(error).__name__}. Give another path, or allow access."
    )


def check_arguments(words: Sequence[str]) -> None:
    """Raise InputError for an argument that cannot be stored in a record, or that holds a password."""
    for word in words:
        try:
            check_storable(word)
            check_storable(word.partition("=")[2])
        except ValueError as error:
            shown = os.fsencode(word).decode("utf-8", "backslashreplace")
            raise InputError(f"{shown!r:.300} cannot be used: {error}.") from None
