"""Read recipes, settings in a YAML file.

Relative paths count from the file's folder, those of changes from the working directory. Which texts are paths is not
known here: a text of a recipe keeps its folder, and the settings, which have types, resolve it (see `resolve_setting`).
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
MAX_NODES = 100_000  # with every alias expanded


class RecipeText(str):
    """A text of a recipe, with the folder of the recipe's file."""

    folder: Path

    def __new__(cls, text: str, folder: Path) -> "RecipeText":
        """Create the text with its folder."""
        self = super().__new__(cls, text)
        self.folder = folder
        return self


@dataclass(frozen=True)
class MayBePath:
    """Mark a text setting that may be a path: a path is neither one of `words`, nor starts with the prefix."""

    words: tuple[str, ...] = ()
    prefix: str | None = None

    def is_path(self, text: str) -> bool:
        """Return whether the text is a path rather than a word or an address."""
        return text not in self.words and "://" not in text and not (self.prefix and text.startswith(self.prefix))


def resolve_setting(text: Any, mark: MayBePath) -> Any:
    """Resolve relative paths of a recipe from the recipe's folder; return everything else unchanged."""
    if isinstance(text, list):
        return [resolve_setting(one, mark) for one in text]
    if not isinstance(text, RecipeText) or not mark.is_path(text):
        return text
    return str(text.folder / os.path.expanduser(text))


def read_recipe(path: Path, changes: dict[str, str] | None = None) -> dict[str, Any]:
    """Return a recipe's values.

    Args:
        path: The YAML file.
        changes: Changes to its values: dotted key to YAML text.

    Raises:
        InputError: The file is missing, no YAML, no mapping, or too large when its aliases are expanded.
    """
    try:
        values = _load_yaml(read_input(path, MAX_BYTES).decode("utf-8-sig"), path.parent)
    except OSError as error:
        raise InputError(f"Cannot read the recipe {path}: {error.strerror}.") from None
    except _NOT_YAML as error:
        raise InputError(f"{path} is not YAML that can be used: {_one_line(error)}.") from None
    if not isinstance(values, dict):
        raise InputError(f"{path} must hold settings as `name: value` lines, e.g. `out: runs/first`.")
    for dotted, text in (changes or {}).items():
        _put(values, dotted, _read_change(dotted, text))
    return values


def _read_change(dotted: str, text: str) -> Any:
    try:
        return _load_yaml(text, None)
    except _NOT_YAML as error:
        raise InputError(f"--set {dotted}: {text!r:.200} is not YAML that can be used: {_one_line(error)}.") from None


def _put(values: dict[str, Any], dotted: str, value: Any) -> None:
    *path, last = dotted.split(".")
    if len(path) > MAX_DEPTH:
        raise InputError(f"--set {dotted:.60}...: nested deeper than {MAX_DEPTH} levels.")
    for part in path:
        values = values.setdefault(part, {})
        if not isinstance(values, dict):
            raise InputError(f"--set {dotted}: {part!r} holds a value, not a group of settings.")
    values[last] = value


def _one_line(error: Exception) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text.rstrip(".")[:300]


# --- YAML ------------------------------------------------------------------------------------------------------------


# yaml lets the errors of int(), datetime() and others through
_NOT_YAML = (yaml.YAMLError, ValueError, TypeError, AttributeError, OverflowError, RecursionError)


def _load_yaml(text: str, folder: Path | None) -> Any:
    """Return the value of a YAML text, whose texts keep the folder unless it is None.

    Raises one of _NOT_YAML, also for aliases that expand to far more than the text.
    """
    _refuse_excessive_size(text)
    loader = _Loader(text)
    loader.folder = folder
    try:
        return loader.get_single_data()
    finally:
        loader.dispose()


class _Loader(yaml.SafeLoader):
    """Turn texts that are values into RecipeText."""

    folder: Path | None = None

    def construct_yaml_text(self, node: yaml.ScalarNode) -> str:
        text = self.construct_scalar(node)
        return text if self.folder is None else RecipeText(text, self.folder)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        values = super().construct_mapping(node, deep=deep)
        return {str(key) if isinstance(key, RecipeText) else key: value for key, value in values.items()}


_Loader.add_constructor("tag:yaml.org,2002:str", _Loader.construct_yaml_text)


def _refuse_excessive_size(text: str) -> None:
    """Raise ValueError for more than MAX_DEPTH levels or MAX_NODES nodes, with aliases expanded."""
    size_of: dict[str, int] = {}  # nodes of each finished anchor, its aliases expanded
    open_nodes: list[tuple[str | None, int]] = []  # anchor, and the node count before it
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
