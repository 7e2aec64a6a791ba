"""Recipes: settings in a YAML file, paths in it counted from where it lies."""

from pathlib import Path
from typing import Any

import yaml

from mining.errors import InputError


def read_recipe(path: Path, changes: dict[str, str] | None = None) -> dict[str, Any]:
    """The recipe's values: YAML, then `changes` (dotted key -> YAML text) on top.

    Paths in the recipe are taken from the recipe's own folder when they are relative.
    Raises InputError when the file is missing, no YAML, or no mapping.
    """
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"Cannot read the recipe {path}: {error.strerror}.") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is not YAML: {' '.join(str(error).split())}.") from None
    if not isinstance(values, dict):
        raise InputError(f"{path} must hold settings as `name: value` lines, e.g. `out: runs/first`.")
    _anchor_paths(values, path.parent)
    for dotted, text in (changes or {}).items():
        _put(values, dotted, _read_change(dotted, text))
    return values


def _read_change(dotted: str, text: str) -> Any:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise InputError(f"--set {dotted}: {text!r} is not YAML: {' '.join(str(error).split())}.") from None


def _anchor_paths(values: dict[str, Any], folder: Path) -> None:
    places = [(values, name) for name in ("out", "truth", "model", "runs", "store", "current")]
    for corpus in (values.get("corpus"), values.get("test"), *_corpora(values)):
        if isinstance(corpus, dict):
            places += [(corpus, name) for name in ("images", "labels", "truth")]
    if isinstance(values.get("train"), dict) and values["train"].get("weights") != "imagenet":
        places.append((values["train"], "weights"))
    if isinstance(values.get("mine"), dict):
        places.append((values["mine"], "thresholds_from"))
    for holder, name in places:
        text = holder.get(name)
        if isinstance(text, str) and text != "none" and not text.startswith("pretrained:") and "://" not in text:
            holder[name] = str(folder / Path(text).expanduser())


def _corpora(values: dict[str, Any]) -> list[Any]:
    """Those of an experiment, and their tests."""
    named = values.get("corpora")
    corpora = [corpus for corpus in named.values() if isinstance(corpus, dict)] if isinstance(named, dict) else []
    return [*corpora, *(corpus.get("test") for corpus in corpora)]


def _put(values: dict[str, Any], dotted: str, value: Any) -> None:
    *path, last = dotted.split(".")
    for part in path:
        values = values.setdefault(part, {})
        if not isinstance(values, dict):
            raise InputError(f"--set {dotted}: {part!r} holds a value, not a group of settings.")
    values[last] = value
