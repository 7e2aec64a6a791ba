"""The exceptions of boxmine. Those that end a command carry its exit code.

The hierarchy, with exit codes:

    BoxmineError                    1   base class of all of them
      + InputError                  2   wrong usage, or input that cannot be used
      |   + CorpusError             2   the images, or the labels, as a whole
      |   + ModelError              2   a model, a checkpoint or its classes
      |   + RunError                2   a run directory that is not what the command needs
      |   |   + DamagedFileError    2   a file of a run or a label store that changed after it was written
      |   |   + DamagedPartError    2   the result of one shard that changed after it was written
      |   + ScoringError            2   ground truth that cannot be used
      + ImageError                  -   one image that cannot be decoded; the image is quarantined
      |   + ImageReplacedError      -   an image file that changed after it was listed
      + MapError                    -   one activation map that holds NaN; the image is quarantined
      + StorageError                4   the disk is full, read-only or not writable; the work can be resumed
      + RunStoppedError             4   the work was interrupted and can be resumed
      |   + ProcessLostError        4   a worker process was killed or failed; the work can be resumed
      + StoreMissingError           5   the label store of earlier versions is missing; labels stay staged

`ImageError` and `MapError` concern a single image. Code that reads many images catches them and goes on.

A message names the file or value, what was expected, and what to do.
"""

import difflib
from collections.abc import Iterable
from typing import Any

from mining.redaction import redact


class BoxmineError(Exception):
    """Base class of all exceptions that boxmine raises on purpose.

    Credentials in the message are redacted. Exit code 1, which subclasses replace.
    """

    exit_code = 1

    def __init__(self, *args: object) -> None:
        super().__init__(*(redact(value) if isinstance(value, str) else value for value in args))

    def __reduce__(self) -> Any:
        # not the class called with the finished message, which a subclass may have built from other arguments
        return _restore, (type(self), self.args, self.__dict__)


class InputError(BoxmineError):
    """A command, setting or input that cannot be used. Exit code 2."""

    exit_code = 2


class CorpusError(InputError):
    """The images or their labels cannot be used as a corpus.

    Raised when a folder of images or a label file is missing, empty, malformed or ambiguous. Exit code 2.
    """


class ModelError(InputError):
    """A model or checkpoint cannot be used, or does not know a class. Exit code 2."""


class RunError(InputError):
    """A run directory is not what the command needs.

    Raised when it is missing, unfinished, in use by another process, or holds another run. Exit code 2.
    """


class DamagedFileError(RunError):
    """A file changed after it was written: its SHA-256 differs, or it cannot be decoded. Exit code 2."""


class DamagedPartError(RunError):
    """The result of one shard changed after it was written; mining the shard again replaces it. Exit code 2.

    Args:
        part: The damaged file.
    """

    def __init__(self, part: object) -> None:
        super().__init__(f"{part} is damaged. Run the same command again: it mines this shard anew.")


class ScoringError(InputError):
    """Ground truth is missing, malformed or does not fit the run. Exit code 2."""


class ImageError(BoxmineError):
    """One image cannot be decoded; the message becomes its reason in quarantine.parquet."""


class ImageReplacedError(ImageError):
    """An image file was changed or deleted after it was listed, so that its SHA-256 is not the listed one."""


class MapError(BoxmineError):
    """One activation map holds NaN or infinity, or has the wrong shape."""


class StorageError(BoxmineError):
    """The disk is full, read-only or not writable; no half-written file is left. Exit code 4."""

    exit_code = 4


class RunStoppedError(BoxmineError):
    """The work was interrupted and can be resumed. Exit code 4."""

    exit_code = 4


class StoreMissingError(BoxmineError):
    """The label store that earlier versions were published to is missing; nothing is published. Exit code 5."""

    exit_code = 5


class ProcessLostError(RunStoppedError):
    """A worker process was killed or failed; running the same command again may succeed. Exit code 4."""


def _restore(kind: type[BoxmineError], args: tuple[object, ...], attributes: dict[str, Any]) -> BoxmineError:
    error = kind.__new__(kind, *args)
    error.__dict__.update(attributes)
    return error


def did_you_mean(name: str, choices: Iterable[str], *, limit: int = 12) -> str:
    """Build the end of a message about an unknown name: the nearest choice, and the list of choices.

    Args:
        name: The unknown name.
        choices: The known names, in the order to list them.
        limit: Most names to list; the number of all of them follows where there are more.

    Example:
        >>> did_you_mean("dag", ["cat", "dog"])
        "did you mean 'dog'? Choose from: cat, dog."
    """
    known = list(choices)
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    if not near:
        near = [c for c in known if c.lower() == name.lower()]
    shown = ", ".join(known[:limit]) + (f", ... ({len(known)} in all)" if len(known) > limit else "")
    return (f"did you mean {near[0]!r}? " if near else "") + f"Choose from: {shown}."


def describe_exit_code(code: int) -> str:
    """Describe how a process ended, from its exit code; a negative code is a signal."""
    return f"was killed by signal {-code}" if code < 0 else f"ended with code {code}"
