"""Text of a dataset card: names of classes and files as plain text in Markdown, tables, shares."""

import re
import unicodedata
from collections.abc import Iterable, Sequence
from pathlib import PurePath

_HTML = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;"})
_MARKUP = re.compile(r"([\\*_\[\]|~#!$@])")
_ADDRESS = re.compile(r"(?<=[a-zA-Z]):(?=//)|(?<=www)\.(?=\S)", re.IGNORECASE)
_PATH = re.compile(r"(?<![\w.:/<])/(?:[^/\s'\"`]+/)+")
_JOINERS = "\u200c\u200d"  # part of words and of pictures
_UNSHOWN = {"Cc", "Cf", "Cs", "Zl", "Zp"}  # Unicode categories: control, invisible, line and paragraph separators


def plain(text: object) -> str:
    r"""Return a text that Markdown shows as it is: no markup, HTML, link or second line.

    Example:
        >>> plain("a|b <i>[x](y)")
        'a\\|b &lt;i&gt;\\[x\\](y)'
    """
    return sentence(text).replace("`", "\\`")


def sentence(text: object) -> str:
    """Do the same with a sentence of boxmine's own, which may quote names; commands in `...` stay code."""
    shown = "".join(" " if unicodedata.category(one) in _UNSHOWN and one not in _JOINERS else one for one in str(text))
    escaped = _MARKUP.sub(r"\\\1", " ".join(shown.split()).translate(_HTML))
    return _ADDRESS.sub(lambda found: "\\" + found[0], escaped)


def without_folders(text: str, known: Iterable[str] = ()) -> str:
    """Return a sentence in which files are named without the folders that they are in on this machine.

    Args:
        text: The sentence.
        known: Folders that it may name, of which only the last part is kept even if their names have blanks.
    """
    for folder in sorted({one for one in known if len(PurePath(one).parts) > 1}, key=len, reverse=True):
        text = text.replace(folder, PurePath(folder).name)
    return _PATH.sub("", text)


def table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> list[str]:
    """Return the lines of a table, whose cells are shown as plain text."""
    lines = (f"| {' | '.join(plain(cell) for cell in row)} |" for row in rows)
    return [f"| {' | '.join(header)} |", "|" + "---|" * len(header), *lines]


def percent(share: float) -> str:
    """Return a share as a percentage."""
    return f"{100 * share:.1f} %"


def interval(ends: Sequence[float] | None) -> str:
    """Return an interval of a share, empty if there is none."""
    return "" if ends is None else f"{100 * ends[0]:.1f} to {100 * ends[1]:.1f} %"


def counted(number: int, one: str, many: str | None = None) -> str:
    """Return a number with its noun."""
    return f"{number} {one if number == 1 else many or one + 's'}"
