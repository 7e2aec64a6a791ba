"""The application, and what several commands share: option groups, examples, recipes."""

from inspect import get_annotations
from pathlib import Path
from typing import Annotated, Any, TypeVar

from cyclopts import App, Group, Parameter
from pydantic import create_model

from mining import __version__
from mining.config import (
    BoxOptions,
    ClusterOptions,
    CorpusSettings,
    ExecutionOptions,
    ListedCorpus,
    MapOptions,
    PretrainedOptions,
    Settings,
    ShardOptions,
    TrainExecutionOptions,
    TrainOptions,
)
from mining.config.recipes import read_recipe
from mining.errors import InputError

S = TypeVar("S", bound=Settings)

INPUT = Group("Input", sort_key=1)
OUTPUT = Group("Output", sort_key=2)
TRAINING = Group("Training", sort_key=3)
MAPS = Group("Maps", sort_key=3)
BOXES = Group("Boxes", sort_key=4)
EXECUTION = Group("Execution", sort_key=5)
CLUSTER = Group("Cluster", sort_key=6)
VERSION = Group("Version of a label store", sort_key=7)
_GROUPS: dict[type[Settings], Group] = {
    CorpusSettings: INPUT, ListedCorpus: INPUT, PretrainedOptions: INPUT, TrainOptions: TRAINING, MapOptions: MAPS,
    BoxOptions: BOXES, ShardOptions: EXECUTION, ExecutionOptions: EXECUTION, TrainExecutionOptions: EXECUTION,
    ClusterOptions: CLUSTER,
}  # fmt: skip

app = App(
    name="boxmine",
    version=__version__,
    help="Generate COCO pseudo-labels for object detection from images that have image-level labels, or none.",
    default_parameter=Parameter(negative_iterable=()),  # no --empty-scales
    end_of_options_delimiter="",
    suppress_keyboard_interrupt=False,  # ours has an exit code of its own
)
Flat = Parameter(name="*")
Changes = Annotated[list[str] | None, Parameter(name="--set", group=INPUT)]
AsOf = Annotated[
    str | None,
    Parameter(group=VERSION, help="Version number, or a time such as 2026-01-31T12:00; by default the latest version."),
]
CorpusName = Annotated[
    str | None, Parameter(name="--corpus", group=VERSION, help="Name of the corpus, if the store holds several.")
]
ImageFolder = Annotated[
    Path | None,
    Parameter(name="--images", group=VERSION, help="Folder of the images here, if it is not where they were labelled."),
]
Json = Annotated[bool, Parameter(name="--json", negative=(), group=OUTPUT, help="Print the result as JSON on stdout.")]
Strict = Annotated[
    bool, Parameter(negative=(), group=OUTPUT, help="End with exit code 3 if an image could not be used.")
]


def grouped(kind: type[S], **others: Group) -> type[S]:
    """Return the settings class with its options in groups of the help page.

    An option's group is that of the class it is defined in, for example `MapOptions`.

    Args:
        kind: The settings class of a command.
        **others: Groups of options that no such class defines.

    Example:
        >>> from mining.config import ScoreSettings
        >>> ScoreCommand = grouped(ScoreSettings, run=INPUT, truth=INPUT)
        >>> issubclass(ScoreCommand, ScoreSettings)
        True
    """
    fields: dict[str, Any] = {}
    for name, field in kind.model_fields.items():
        definer = next((base for base in kind.__mro__ if name in get_annotations(base)), kind)
        group = others.get(name) or _GROUPS.get(definer)
        if group is not None:
            fields[name] = (Annotated[(field.annotation, *field.metadata, Parameter(group=group))], field)
    return create_model(kind.__name__, __base__=kind, __doc__=kind.__doc__, **fields)


def examples(*commands: str) -> str:
    """Return the end of a help page: the commands as examples, one per line.

    Example:
        >>> examples("boxmine status runs/first").splitlines()[3]
        'boxmine status runs/first'
    """
    return "\n".join(["Examples:", "", "```", *commands, "```"])


def recipe_values(recipe: Path, out: Path | None, changes: list[str] | None) -> dict[str, Any]:
    """Return the values of a recipe, with `--out` and the changes of `--set` (key=value)."""
    values = read_recipe(recipe, dict(_key_value(change) for change in changes or []))
    return values if out is None else {**values, "out": str(out)}


def _key_value(change: str) -> tuple[str, str]:
    key, equals, value = change.partition("=")
    if not equals:
        raise InputError(f"--set {change}: expected key=value, e.g. --set train.epochs=5.")
    return key, value
