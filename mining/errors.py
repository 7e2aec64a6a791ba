"""The errors of boxmine, one small tree.

    BoxmineError            1   anything of ours; the number is the exit code of the command
    +-- InputError          2   wrong usage or bad input
    |   +-- CorpusError     2   the images or the labels as a whole
    |   +-- ModelError      2   a model, a checkpoint or its classes
    |   +-- RunError        2   a run directory that cannot be used so
    |   |   +-- DamagedFileError  2  a file of a run, or of a label store, that changed after it was written
    |   |   +-- DamagedPartError  2  a part whose checksums do not fit
    |   +-- ScoringError    2   a truth that cannot be used
    +-- ImageError          -   one image; caught by whoever reads many, and quarantined
    |   +-- ImageReplacedError  -   its file is not the one that was listed
    +-- MapError            -   one activation map; likewise
    +-- StorageError        4   the disk refused (full, read-only); the run can be resumed
    +-- RunStoppedError     4   stopped from outside; the run can be resumed
    +-- StoreMissingError   5   the label store that was published to is not there

A message names the file or value, what was expected, and what to do.
"""

import difflib
from collections.abc import Iterable
from typing import Any

from mining.redaction import redact


class BoxmineError(Exception):
    """Base of all errors that boxmine raises on purpose. The message never shows a password of an address."""

    exit_code = 1

    def __init__(self, *words: object) -> None:
        super().__init__(*(redact(word) if isinstance(word, str) else word for word in words))

    def __reduce__(self) -> Any:
        # not by calling the class with the finished message, which a subclass may have made of other arguments
        return _restored, (type(self), self.args, self.__dict__)


class InputError(BoxmineError):
    """Wrong usage or bad input."""

    exit_code = 2


class CorpusError(InputError):
    """The images or their labels cannot be used as a corpus."""


class ModelError(InputError):
    """A model or checkpoint cannot be used, or does not know a class."""


class RunError(InputError):
    """A run directory is not what the command needs."""


class DamagedFileError(RunError):
    """A file changed after it was written; the message names it and says what to do."""


class DamagedPartError(RunError):
    """A part was damaged after it was written; mining its shard again makes it whole."""

    def __init__(self, part: object) -> None:
        super().__init__(f"{part} is damaged; give the same command again, which makes it anew.")


class ScoringError(InputError):
    """A truth file cannot be used to score with."""


class ImageError(BoxmineError):
    """One image cannot be read; its reason goes to the quarantine."""


class ImageReplacedError(ImageError):
    """The file is not the one whose hash was listed, or is gone: what it held then cannot be said any more."""


class MapError(BoxmineError):
    """One activation map holds NaN or has the wrong shape."""


class StorageError(BoxmineError):
    """The disk refused to take a file; nothing half-written is left."""

    exit_code = 4


class RunStoppedError(BoxmineError):
    """The work was stopped from outside and can be resumed."""

    exit_code = 4


class StoreMissingError(BoxmineError):
    """The label store that earlier jobs published to is not there; nothing is published elsewhere instead."""

    exit_code = 5


class ProcessLostError(RunStoppedError):
    """A process that did the work was killed or failed; another try may have more luck."""


def _restored(kind: type[BoxmineError], words: tuple[object, ...], attributes: dict[str, Any]) -> BoxmineError:
    error = kind.__new__(kind, *words)
    error.__dict__.update(attributes)
    return error


def did_you_mean(name: str, choices: Iterable[str], *, limit: int = 12) -> str:
    """A sentence's end that lists the choices and names the nearest one.

    choices: in the order to show them; more than `limit` are cut short with their count.
    """
    known = list(choices)
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    if not near:
        near = [c for c in known if c.lower() == name.lower()]
    shown = ", ".join(known[:limit]) + (f", ... ({len(known)} in all)" if len(known) > limit else "")
    return (f"did you mean {near[0]!r}? " if near else "") + f"Choose from: {shown}."


def describe_exit_code(code: int) -> str:
    """The exit code of a process in words."""
    return f"was killed by signal {-code}" if code < 0 else f"ended with code {code}"
