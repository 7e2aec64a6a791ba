"""Generate the reference pages from the code, so that they cannot go stale: a hook of mkdocs.

The pages exist only while the documentation is built; `python docs/generate.py` prints them.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args, get_origin

import pyarrow as pa
from pydantic import BaseModel
from pydantic_core import PydanticUndefined

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))


def on_files(files: Any, config: Any) -> Any:
    """Add the generated pages (called by mkdocs)."""
    from mkdocs.structure.files import File

    for name, page in PAGES.items():
        files.append(File.generated(config, name, content=page()))
    for name in _localizers():
        page_name = f"methods/{name}.md"
        if files.get_file_from_path(page_name) is None:
            files.append(File.generated(config, page_name, content=f"# {name}\n"))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """Add summary, reference and options to the page of a method (called by mkdocs)."""
    folder, _, file = page.file.src_uri.partition("/")
    name = file.removesuffix(".md")
    if folder != "methods" or name not in _localizers():
        return markdown
    return f"{markdown.rstrip()}\n\n{method_section(name)}"


# --- command line ----------------------------------------------------------------------------------------------------


def command_line_page() -> str:
    """Every command with its options, from the application itself."""
    from flows.cli.application import app

    text = app.generate_docs(output_format="markdown", heading_level=1)
    _, _, commands = text.partition("\n## boxmine ")
    return (
        "# Command line\n\n`boxmine COMMAND --help` shows the same text. `python -m boxmine` is the same command. For "
        "exit codes see [Errors and exit codes](errors.md#exit-codes).\n\n## boxmine " + commands
    )


# --- settings --------------------------------------------------------------------------------------------------------


def settings_page() -> str:
    """Every setting with its type, default and meaning, from the pydantic models."""
    lines = [
        "# Settings",
        "",
        "The same names are options of the command line (`--min-score 0.3`), keys of a recipe (`min_score: 0.3`) and "
        "keyword arguments in Python (`min_score=0.3`). An unknown name is an error.",
        "",
    ]
    for title, introduction, kind, without in _settings_shown():
        lines += [f"## {title}", "", introduction, "", *_settings_table(kind, without), ""]
    return "\n".join(lines)


def _settings_shown() -> Iterator[tuple[str, str, type[BaseModel], set[str]]]:
    from mining.config import (
        CompareSettings,
        ExecutionOptions,
        ListedCorpus,
        MapsSettings,
        MineOptions,
        MineSettings,
        RetrainSettings,
        RunSettings,
        ScoreSettings,
        ShardOptions,
        TrainExecutionOptions,
        TrainOptions,
    )
    from mining.config.execution import ClusterOptions
    from mining.config.mine import BoxOptions, MapOptions, PretrainedOptions
    from mining.experiments import ExperimentSettings
    from mining.label_store.settings import Gates, LabelSettings

    kinds = (ListedCorpus, MineOptions, ShardOptions, ExecutionOptions)
    elsewhere = {name for kind in kinds for name in kind.model_fields}
    yield "Images and labels", "Of `boxmine train` and `mine`, and of `corpus` in a recipe.", ListedCorpus, set()
    yield "Training", "Of `boxmine train`, and of `train` in a recipe: what decides the weights.", TrainOptions, set()
    yield "Execution of training", "They do not change what is learnt.", TrainExecutionOptions, set()
    pretrained = "Of `boxmine mine --model pretrained:NAME`, and of `mine` in a recipe with such a model."
    yield "Pretrained classifiers", pretrained, PretrainedOptions, set()
    yield "Maps", "Of `boxmine mine`, and of `mine` in a recipe: how activation maps are made.", MapOptions, set()
    yield "Boxes", "Of `boxmine mine`, and of `mine` in a recipe: how boxes are made from maps.", BoxOptions, set()
    yield "Shards and batches", "Which images share a forward pass.", ShardOptions, set()
    execution = "They do not change a box; a run may be resumed with others."
    yield "Execution of mining", execution, ExecutionOptions, set(ClusterOptions.model_fields)
    yield "Runners", "Several GPUs or machines; not in Python.", ClusterOptions, set()
    yield "Model and output of mining", "Of `boxmine mine` alone.", MineSettings, elsewhere
    yield "Scoring", "Of `boxmine score`.", ScoreSettings, set()
    yield "Comparison", "Of `boxmine compare`.", CompareSettings, set()
    yield "Page of maps", "Of `boxmine maps`.", MapsSettings, set()
    yield "Recipe of `boxmine run`", "Train, mine, score and report in one command.", RunSettings, set()
    yield "Recipe of `boxmine label`", "A scheduled labelling job.", LabelSettings, set()
    yield "Quality gates", "Of `gates` in the recipe of `boxmine label`.", Gates, set()
    yield "Recipe of retraining", "A new model, compared with the run in use.", RetrainSettings, set()
    yield "Recipe of `boxmine experiment`", "Methods compared on the same images.", ExperimentSettings, set()


def _settings_table(kind: type[BaseModel], without: set[str]) -> Iterator[str]:
    yield "| setting | type | default | meaning |"
    yield "|---|---|---|---|"
    for name, field in kind.model_fields.items():
        if name in without:
            continue
        yield _row(f"`{name}`", f"`{_type_name(field.annotation)}`", _default(field), field.description or "")


def _default(field: Any) -> str:
    if field.is_required():
        return "required"
    if field.default is PydanticUndefined:
        made = field.get_default(call_default_factory=True)
        return "defaults of the group" if isinstance(made, BaseModel) else f"`{made!r}`" if made else "none"
    return "not set" if field.default is None else f"`{_value(field.default)}`"


def _value(value: Any) -> str:
    return ", ".join(map(_value, value)) if isinstance(value, tuple) else str(value)


def _type_name(kind: Any) -> str:
    origin = get_origin(kind)
    if kind is type(None):
        return "null"
    if origin is None:
        return getattr(kind, "__name__", str(kind))
    name = getattr(origin, "__name__", str(origin))
    args = [argument for argument in get_args(kind) if argument is not Ellipsis]
    if name == "Literal":
        return " or ".join(map(str, args))
    if name == "Annotated":
        return _type_name(args[0])
    if name in ("Union", "UnionType"):
        return " or ".join(_type_name(argument) for argument in args)
    return f"{name} of {', '.join(_type_name(argument) for argument in args)}"


# --- methods ---------------------------------------------------------------------------------------------------------


def _localizers() -> list[str]:
    from mining.localizers.registry import LOCALIZERS

    return list(LOCALIZERS)


def method_section(name: str) -> str:
    """Summary, reference, properties and options of a localizer, from the registry and its class."""
    from mining.localizers.loading import localizer_named
    from mining.localizers.option_descriptions import describe_options
    from mining.localizers.registry import LOCALIZERS, localizers_on_same_weights

    entry, kind = LOCALIZERS[name], localizer_named(name)
    related = ", ".join(f"[`{other}`]({other}.md)" for other in localizers_on_same_weights(name))
    rows = [
        ("maps", "one per image" if kind.class_agnostic else "one per class"),
        ("gradients when mining", "yes" if kind.needs_gradients else "no"),
        ("shares weights with", related or "no other method"),
        ("default threshold", f"{kind.threshold} of the {'maximum' if kind.normalise == 'max' else 'range'}"),
        ("weights kept", "of the last epoch" if kind.keeps_last else "of the best epoch on the validation set"),
        ("default learning rate", f"{kind.learning_rate:g}"),
    ]
    options = [
        (f"`{option.name}`", option.type, f"`{option.default}`", option.meaning) for option in describe_options(name)
    ]
    lines = [
        "## In short",
        "",
        f"{entry.summary[:1].upper()}{entry.summary[1:]}.",
        "",
        f"Reference: {entry.reference}.",
    ]
    lines += ["", "| property | value |", "|---|---|", *(_row(*row) for row in rows)]
    lines += ["", "## Options", "", "| option | values | default | meaning |", "|---|---|---|---|"]
    lines += [*(_row(*row) for row in options), "", "## The code", ""]
    return "\n".join([*lines, *_docstring(entry.module), ""])


def _docstring(path: str) -> list[str]:
    """Have mkdocstrings put the docstring here, without a heading."""
    return [
        f"::: {path}",
        "    options:",
        "      show_root_heading: false",
        "      show_root_toc_entry: false",
        "      members: []",
    ]


# --- file formats ----------------------------------------------------------------------------------------------------


def formats_page() -> str:
    """The columns of every table, from the pyarrow schemas and their field metadata."""
    from mining.corpus.schema import CORPUS_SCHEMA, QUARANTINE_SCHEMA
    from mining.label_store.schema import STORE_SCHEMA
    from mining.quality.schema import QUALITY_SCHEMA
    from mining.runs.schema import ANNOTATION_SCHEMA, CURVE_SCHEMA, RANKING_SCHEMA

    tables = [
        ("annotations.parquet", "The boxes, one row per box. annotations.json holds them as COCO.", ANNOTATION_SCHEMA),
        ("corpus.parquet", "The images, one row per image, with the state that mining gave it.", CORPUS_SCHEMA),
        ("quarantine.parquet", "Images that could not be used, one row per image.", QUARANTINE_SCHEMA),
        ("curves.parquet", "The box at each threshold, one row per image and class.", CURVE_SCHEMA),
        ("rankings.parquet", "The most probable classes, one row per image.", RANKING_SCHEMA),
        ("quality.parquet", "Signals of the boxes' quality, one row per box.", QUALITY_SCHEMA),
        ("Label store", "A Delta table: one row per box, and one for an image without boxes.", STORE_SCHEMA),
    ]
    lines = [_FORMATS]
    for title, introduction, schema in tables:
        lines += [f"## {title}", "", introduction, "", *_schema_table(schema), ""]
    return "\n".join(lines)


_FORMATS = """# File formats

Boxes are in pixels of the image after its EXIF orientation is applied, half-open: `x + w` is the first column right of
the box. Each Parquet table holds the SHA-256 of its own content, and `run.json` lists the digest of every table. The
unit and meaning of each column are also in the Parquet field metadata.

    runs/NAME/
      run.json              settings, versions, digests of the inputs, counts, timings, state
      corpus.parquet        the images, with their state and the SHA-256 of their file
      model/                weights.safetensors, model.json
      parts/                one file per shard: finished work that a resumed run keeps
      quarantine.parquet    images that could not be used, and why
      annotations.parquet   the boxes
      annotations.json      the boxes in COCO format, with `score`
      curves.parquet        for each image and class, the box at each of 49 thresholds
      rankings.parquet      for each image, its most probable classes
      quality.parquet       signals of each box and calibrated probabilities, once they were asked for
      verdicts.sqlite       plans of audits and verdicts of people, see Judging a sample of the boxes
      verdicts.parquet      the verdicts that count, as a table
      truth.json            objects of images that were looked at whole, in a run that `boxmine audit apply` wrote
      calibration.json      the calibration, if the boxes were calibrated; another run can use it
      scores.json           every figure with its definition, if the run was scored
      log.jsonl             events with their time
      report/index.html     the report; report/charts/ has its charts as SVG and PNG
"""


def _schema_table(schema: pa.Schema) -> Iterator[str]:
    yield "| column | type | unit | meaning |"
    yield "|---|---|---|---|"
    for field in schema:
        metadata = {key.decode(): value.decode() for key, value in (field.metadata or {}).items()}
        yield _row(f"`{field.name}`", f"`{field.type}`", metadata.get("unit", ""), metadata.get("meaning", ""))


# --- errors ----------------------------------------------------------------------------------------------------------


def errors_page() -> str:
    """The errors and the exit codes, from mining.errors."""
    from mining import errors

    lines = [_ERRORS, "| error | kind of | exit code | raised when |", "|---|---|---|---|"]
    kinds = [kind for kind in vars(errors).values() if _is_error(kind, errors.BoxmineError)]
    for kind in kinds:
        summary = (inspect.getdoc(kind) or "").partition("\n\n")[0].replace("\n", " ")
        base = kind.__mro__[1].__name__
        code = "-" if issubclass(kind, errors.ImageError | errors.MapError) else str(kind.exit_code)
        lines.append(_row(f"`{kind.__name__}`", f"`{base}`", code, summary))
    return "\n".join(lines) + "\n"


def _is_error(kind: Any, base: type[BaseException]) -> bool:
    return inspect.isclass(kind) and issubclass(kind, base)


_ERRORS = """# Errors and exit codes

Every error that boxmine raises on purpose is a `boxmine.BoxmineError`. Its message names the file or value, what was
expected, and what to do. One image that cannot be used (`ImageError`, `MapError`) does not end a run: the image goes to
the quarantine with the reason.

    try:
        run = boxmine.mine("photos", model="models/mine", out="runs/first")
    except boxmine.CorpusError as error:
        print(error)

## Exit codes

| code | meaning |
|---|---|
| 0 | done; images that could not be used are named |
| 1 | a bug in boxmine |
| 2 | wrong usage or bad input: one sentence, no traceback |
| 3 | with `--strict`: done, but images could not be used |
| 4 | interrupted; the same command resumes |
| 5 | nothing was published: labels are staged, or the label store is not there |

## Errors
"""


def _row(*cells: str) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"


PAGES = {
    "reference/command-line.md": command_line_page,
    "reference/settings.md": settings_page,
    "reference/formats.md": formats_page,
    "reference/errors.md": errors_page,
}


if __name__ == "__main__":
    for name, page in PAGES.items():
        print(f"<!-- {name} -->\n{page()}")
