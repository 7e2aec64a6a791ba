"""How the boxes of an export were made: run, model, and the settings that decide the boxes."""

from collections.abc import Iterator, Mapping
from pathlib import PurePath, PureWindowsPath
from typing import Any

from mining.config.mine import MineOptions, PretrainedOptions
from mining.export.base import ExportOptions
from mining.export.card_text import counted, sentence, table, without_folders
from mining.export.exported_set import ExportedSet
from mining.models.card import IMPORTED, PRETRAINED, is_detector
from mining.runs.fused_record import describe_fusion
from mining.runs.run import Run


def origin_lines(exported: ExportedSet, options: ExportOptions, min_precision: float | None) -> list[str]:
    """Return the lines of the section, in Markdown."""
    run = exported.run
    rows = [*_run(run), *(_imported(run) if run.card.localizer == IMPORTED else _mined(run))]
    return [
        *table(("run", "value"), rows),
        "",
        *table(("export", "value"), _exported(exported, options, min_precision)),
    ]


def _run(run: Run) -> Iterator[tuple[str, str]]:
    version, date = run.record.get("versions", {}).get("boxmine"), run.record.get("finished")
    yield "name", run.name
    if (fusion := describe_fusion(run.record)) is not None:
        yield "boxes", fusion
    if version:
        yield "written with", f"boxmine {version}"
    if date:
        yield "date", str(date)


def _mined(run: Run) -> Iterator[tuple[str, str]]:
    record, card = run.record, run.card
    config, used = record["config"], record.get("used") or {}
    model = str(config.get("model", ""))
    is_pretrained = model.startswith(PRETRAINED)
    yield (
        "detector" if is_detector(card) else "localizer",
        str(config.get("localizer") or used.get("localizer") or card.localizer),
    )
    yield "backbone", card.backbone
    if is_pretrained:
        yield "model", model
    elif card.training.get("images"):
        yield "model", f"trained on {counted(int(card.training['images']), 'image')}"
    digest = record["inputs"].get("model_sha256") or card.weights_sha256
    if digest:
        yield "SHA-256 of the model's weights", str(digest)
    left_out = {"localizer", *(() if is_pretrained else PretrainedOptions.model_fields)}
    for name in MineOptions.model_fields:
        value = config.get(name) if config.get(name) is not None else used.get(name)
        if name not in left_out and value not in (None, [], {}, ()):
            yield name, _shown(value)


def _imported(run: Run) -> Iterator[tuple[str, str]]:
    inputs = run.record["inputs"]
    for name, words in (("boxes", "file with the boxes"), ("dataset", "data set of the file")):
        if name in inputs:
            yield words, file_name_of(str(inputs[name]))
        if f"{name}_sha256" in inputs:
            yield f"SHA-256 of the {words}", str(inputs[f"{name}_sha256"])


def _exported(exported: ExportedSet, options: ExportOptions, min_precision: float | None) -> Iterator[tuple[str, str]]:
    yield "minimum score of a box", f"{options.min_score:g}"
    if min_precision is not None:
        yield "promised precision", f"{min_precision:g}"
    if exported.split.listed:
        yield "split", "as the corpus lists it"
    elif options.val_share:
        yield "split", f"drawn by file name: {options.val_share:g} for validation, seed {options.seed}"
    yield "images without a box", "all" if options.include_empty else "only those that are known to be empty"
    yield "listed classes", "those with a box" if options.used_classes else "all of the run"
    if options.val_truth is not None:
        yield "ground truth of validation images", options.val_truth.name
    if exported.only is not None:
        yield "images", "only those of a plan"


def sentence_of_run(run: Run, text: str) -> str:
    """Return a sentence that a run or an export says of itself, as Markdown that names no folder of this machine."""
    values = (str(value) for value in run.record["config"].values() if isinstance(value, str) and value.startswith("/"))
    return sentence(without_folders(text, [str(run.path), str(run.image_root), *values]))


def file_name_of(path: str) -> str:
    """Return the last part of a path of this or another system."""
    return PureWindowsPath(PurePath(path).name).name


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Mapping):
        return ", ".join(f"{name} = {_shown(one)}" for name, one in sorted(value.items()))
    if isinstance(value, list | tuple):
        return ", ".join(f"{one:g}" if isinstance(one, float) else str(one) for one in value)
    text = f"{value:g}" if isinstance(value, float) else str(value)
    return file_name_of(text) if text.startswith("/") else text
