"""Recipes: settings in a YAML file. Relative paths in it count from its folder, those of changes from this process's.

Which texts are paths is not known here: a text of a recipe remembers its folder, and the settings, which have types,
ask it for the path (see `resolve_setting`).
"""

import os
from collections.abc import Hashable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from mining.errors import InputError
from mining.storage.untrusted_files import read_input

MAX_BYTES = 1_000_000
MAX_DEPTH = 50
MAX_NODES = 100_000  # with every alias counted as what it stands for


class RecipeText(str):
    """A text that stands in a recipe. folder: that of the recipe's file."""

    folder: Path

    def __new__(cls, text: str, folder: Path) -> "RecipeText":
        """The text with its folder."""
        self = super().__new__(cls, text)
        self.folder = folder
        return self


@dataclass(frozen=True)
class MayBePath:
    """Marks a text setting that may be the path of a file or folder: neither one of `words`, nor with the prefix."""

    words: tuple[str, ...] = ()
    prefix: str | None = None

    def is_path(self, text: str) -> bool:
        """Whether the text is a path rather than a word or an address."""
        return text not in self.words and "://" not in text and not (self.prefix and text.startswith(self.prefix))


def resolve_setting(text: Any, mark: MayBePath) -> Any:
    """A recipe's text that is a relative path, as path from the recipe's folder; everything else as it is."""
    if not isinstance(text, RecipeText) or not mark.is_path(text):
        return text
    return str(text.folder / os.path.expanduser(text))


def read_recipe(path: Path, changes: dict[str, str] | None = None) -> dict[str, Any]:
    """The recipe's values: YAML, then `changes` (dotted key -> YAML text) on top.

    Raises InputError when the file is missing, no YAML, no mapping, or out of all proportion.
    """
    try:
        values = _loaded(read_input(path, MAX_BYTES).decode("utf-8-sig"), path.parent)
    except OSError as error:
        raise InputError(f"Cannot read the recipe {path}: {error.strerror}.") from None
    except _NOT_YAML as error:
        raise InputError(f"{path} is not YAML that can be used: {_line(error)}.") from None
    if not isinstance(values, dict):
        raise InputError(f"{path} must hold settings as `name: value` lines, e.g. `out: runs/first`.")
    for dotted, text in (changes or {}).items():
        _put(values, dotted, _read_change(dotted, text))
    return values


def _read_change(dotted: str, text: str) -> Any:
    try:
        return _loaded(text, None)
    except _NOT_YAML as error:
        raise InputError(f"--set {dotted}: {text!r:.200} is not YAML that can be used: {_line(error)}.") from None


def _put(values: dict[str, Any], dotted: str, value: Any) -> None:
    *path, last = dotted.split(".")
    if len(path) > MAX_DEPTH:
        raise InputError(f"--set {dotted:.60}...: nested deeper than {MAX_DEPTH} levels.")
    for part in path:
        values = values.setdefault(part, {})
        if not isinstance(values, dict):
            raise InputError(f"--set {dotted}: {part!r} holds a value, not a group of settings.")
    values[last] = value


def _line(error: Exception) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text.rstrip(".")[:300]


# --- YAML ------------------------------------------------------------------------------------------------------------


# yaml lets the errors of int(), datetime() and others through
_NOT_YAML = (yaml.YAMLError, ValueError, TypeError, AttributeError, OverflowError, RecursionError)


def _loaded(text: str, folder: Path | None) -> Any:
    """The value of a YAML text. folder: what its texts remember; None leaves them plain.

    Raises one of _NOT_YAML, also for aliases that stand for far more than the text says.
    """
    _refuse_out_of_proportion(text)
    loader = _Loader(text)
    loader.folder = folder
    try:
        return loader.get_single_data()
    finally:
        loader.dispose()


class _Loader(yaml.SafeLoader):
    """Makes RecipeText of the texts that are values."""

    folder: Path | None = None

    def construct_yaml_text(self, node: yaml.ScalarNode) -> str:
        text = self.construct_scalar(node)
        return text if self.folder is None else RecipeText(text, self.folder)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        values = super().construct_mapping(node, deep=deep)
        return {str(key) if isinstance(key, RecipeText) else key: value for key, value in values.items()}


_Loader.add_constructor("tag:yaml.org,2002:str", _Loader.construct_yaml_text)


def _refuse_out_of_proportion(text: str) -> None:
    """Raises ValueError for nesting, or aliases, that come to more than MAX_DEPTH levels or MAX_NODES nodes."""
    size_of: dict[str, int] = {}  # of each finished anchor, its aliases counted as what they stand for
    open_nodes: list[tuple[str | None, int]] = []  # anchor, and the count before it
    count = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        if isinstance(event, yaml.AliasEvent):
            if event.anchor not in size_of and event.anchor in dict(open_nodes):
                raise ValueError(f"the alias *{event.anchor} stands for something that holds the alias itself")
            count += size_of.get(event.anchor or "", 1)
        elif isinstance(event, yaml.ScalarEvent):
            count += 1
            if event.anchor:
                size_of[event.anchor] = 1
        elif isinstance(event, yaml.CollectionStartEvent):
            open_nodes.append((event.anchor, count))
            size_of.pop(event.anchor or "", None)
            count += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, before = open_nodes.pop()
            if anchor:
                size_of[anchor] = count - before
        if len(open_nodes) > MAX_DEPTH:
            raise ValueError(f"nested deeper than {MAX_DEPTH} levels")
        if count > MAX_NODES:
            raise ValueError(f"with its aliases it comes to more than {MAX_NODES:,} values")
