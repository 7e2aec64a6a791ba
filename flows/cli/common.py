"""The application, and what several commands share."""

from pathlib import Path
from typing import Annotated, Any

from cyclopts import App, Parameter

from mining import __version__
from mining.config.recipes import read_recipe
from mining.errors import InputError

app = App(
    name="boxmine",
    version=__version__,
    help="Point it at images that have class names at most; get back boxes that a detector can be trained on.",
    end_of_options_delimiter="",
    suppress_keyboard_interrupt=False,  # ours has an exit code of its own
)
Flat = Parameter(name="*")
Json = Annotated[bool, Parameter(name="--json", negative=(), help="Print the answer as JSON on stdout.")]

Strict = Annotated[bool, Parameter(negative=(), help="End with exit code 3 where images could not be used.")]


def recipe_values(recipe: Path, out: Path | None, changes: list[str] | None) -> dict[str, Any]:
    values = read_recipe(recipe, dict(_key_value(change) for change in changes or []))
    return values if out is None else {**values, "out": str(out)}


def _key_value(change: str) -> tuple[str, str]:
    key, equals, value = change.partition("=")
    if not equals:
        raise InputError(f"--set {change}: expected key=value, e.g. --set train.epochs=5.")
    return key, value
