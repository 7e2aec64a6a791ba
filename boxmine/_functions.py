"""The functions of the package: what the commands do, in this process and without Prefect."""

import logging
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Unpack

from boxmine._keywords import AnyPath, ExportKeywords, ExtractionKeywords, MineKeywords, TrainKeywords
from boxmine._progress import Report, progress_bar
from boxmine._results import Comparison, Scores, TrainedModel
from boxmine._run import Run
from mining.config import CompareSettings, MineSettings, ScoreSettings, TrainSettings, parse
from mining.errors import InputError

if TYPE_CHECKING:
    from boxmine._localizer import Localizer
    from mining.export import ExportSummary
    from mining.label_store.summaries import LabelSummary

_log = logging.getLogger(__name__)
_OTHER_PROCESSES = ("runner", "runner_workers", "gpus_per_worker", "ray_address")


def train(
    images: AnyPath,
    *,
    out: AnyPath,
    labels: AnyPath | None = None,
    progress: bool | None = None,
    **options: Unpack[TrainKeywords],
) -> TrainedModel:
    """Train a localizer from image-level labels and write a model folder.

    An interrupted training of the same settings is resumed; a finished one is returned at once. Trains on one device;
    for several use the command `boxmine train`.

    Args:
        images: Folder of images, at any depth.
        out: Model folder to write.
        labels: CSV (file_name,labels), COCO JSON, VOC XML or CUB folder; by default one folder per class.
        progress: Whether to show a progress bar; by default on a terminal and in a notebook.
        **options: The options of `boxmine train`: epochs, localizer, backbone, seed, ...

    Returns:
        The model, which `mine` and `load_model` take.

    Raises:
        InputError: An option is unknown or out of range, or asks for several devices.
        CorpusError: The images or labels cannot be used.
        ModelError: `out` holds another model, or the localizer, backbone or weights are unknown.
    """
    from mining.training.distributed import is_distributed
    from mining.training.job import train as train_model

    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
    settings = parse(TrainSettings, {**_values(images=images, labels=labels, out=out), "devices": "1", **options})
    if is_distributed(settings):
        raise InputError(
            f"devices={settings.devices!r} asks for several processes, which a function call cannot start; "
            "use the command `boxmine train` for several devices."
        )
    _check(settings)
    with progress_bar("train", progress) as report_progress:
        return TrainedModel(train_model(settings, report_progress))


def mine(
    images: AnyPath,
    *,
    model: AnyPath,
    out: AnyPath,
    labels: AnyPath | None = None,
    progress: bool | None = None,
    **options: Unpack[MineKeywords],
) -> Run:
    """Mine boxes from images and write a run directory.

    An interrupted run of the same settings is resumed; a finished one is returned at once. Mines in this process; for
    several GPUs or machines use the command `boxmine mine` with --runner.

    Args:
        images: Folder of images, at any depth.
        model: Model folder, what `train` returned, or pretrained:BACKBONE for ImageNet's classes.
        out: Run directory to write.
        labels: CSV (file_name,labels), COCO JSON, VOC XML or CUB folder; 'none' ignores class folders. By default one
            folder per class where the images lie so, else the model names the classes.
        progress: Whether to show a progress bar; by default on a terminal and in a notebook.
        **options: The options of `boxmine mine`: scales, threshold, min_score, ...

    Raises:
        InputError: An option is unknown or out of range.
        CorpusError: The images or labels cannot be used.
        ModelError: The model cannot be used or does not know a class.
        RunError: `out` holds another run, or another process works on it.
        StorageError: The disk refused; call again to resume.
    """
    from mining.runs.mining_job import mine as mine_corpus

    values = {**_values(images=images, labels=labels, out=out), "model": os.fspath(model), **options}
    _refuse_other_processes(values)
    settings = parse(MineSettings, values)
    _check(settings)
    with progress_bar("mine", progress) as report_progress:
        mine_corpus(settings, _without_text(report_progress))
    return Run(settings.out)


def score(
    run: AnyPath,
    truth: AnyPath,
    *,
    maps: bool = False,
    engine: Literal["boxmine", "pycocotools"] = "boxmine",
    progress: bool | None = None,
) -> Scores:
    """Score a finished run against ground truth and write scores.json.

    Args:
        run: Run or run directory.
        truth: COCO JSON with boxes, folder of VOC XML, or CUB folder.
        maps: Draw the maps again, which takes as long as mining, for MaxBoxAcc and MaxBoxAccV2.
        engine: What computes COCO's figures; both give the same numbers, pycocotools far more slowly.
        progress: Whether to show a progress bar while maps are drawn.

    Raises:
        RunError: The run is not finished or damaged.
        ScoringError: The ground truth cannot be read, or shares no image or class with the run.
    """
    from mining.evaluation.job import score as score_run

    settings = parse(ScoreSettings, {"run": Path(run), "truth": Path(truth), "maps": maps, "engine": engine})
    _check(settings)
    with progress_bar("maps", progress if maps else False) as report_progress:
        return Scores(score_run(settings, lambda done, total: report_progress(done, total, "")))


def report(run: AnyPath, truth: AnyPath | None = None) -> Path:
    """Write the HTML report of a finished run.

    Args:
        run: Run or run directory.
        truth: True boxes to draw beside the mined ones; by default those that the run was scored against.

    Returns:
        Path of the page, report/index.html in the run directory.

    Raises:
        RunError: The run is not finished or damaged.
        ScoringError: The ground truth cannot be read.
    """
    from mining.preflight import check_truth
    from mining.reporting.report_page import write_report

    truth = None if truth is None else Path(truth)
    check_truth(truth)
    return write_report(Path(run), truth)


def compare(first: AnyPath, second: AnyPath, truth: AnyPath | None = None, *, out: AnyPath | None = None) -> Comparison:
    """Compare two finished runs: which boxes changed and, with ground truth, whether they got better.

    Args:
        first: Run or run directory to compare with.
        second: Run or run directory that is compared with it.
        truth: True boxes; by default those that one of the runs was scored against.
        out: Page to write; by default report/against-FIRST.html of the second run.

    Raises:
        RunError: A run is not finished, or the runs have no image in common.
        ScoringError: The ground truth cannot be read.
    """
    from mining.reporting.comparison_page import compare as compare_runs

    settings = parse(CompareSettings, _values(first=first, second=second, truth=truth, out=out))
    _check(settings)
    return Comparison(*compare_runs(settings))


def export(run: AnyPath, format: str, out: AnyPath, **options: Unpack[ExportKeywords]) -> "ExportSummary":
    """Write a finished run, with its images, as a dataset that a detector trains on.

    Args:
        run: Run or run directory.
        format: coco, yolo or voc.
        out: New or empty folder; it appears complete or not at all.
        **options: min_score, copy, val_share, seed, include_empty, val_truth, used_classes: see `boxmine export`.

    Raises:
        InputError: The format is unknown, a value is out of range, or `out` is not empty.
        RunError: The run is not finished, or its images are gone or changed.
        StorageError: The disk refused.
    """
    from mining.export import export as export_run

    values: dict[str, Any] = dict(options)
    if values.get("val_truth") is not None:
        values["val_truth"] = Path(values["val_truth"])
    return export_run(Path(run), format, Path(out), **values)


def label(
    recipe: AnyPath | Mapping[str, Any],
    *,
    accept: bool = False,
    restore: str | None = None,
    new_store: bool = False,
    progress: bool | None = None,
) -> "LabelSummary":
    """Run a labelling job: mine what is new or changed since the last version, and publish it if the gates pass.

    Args:
        recipe: Recipe file, or its settings by name.
        accept: Publish although a gate did not pass.
        restore: Instead, publish the version of this number or time once more.
        new_store: Begin a new store where the one that earlier jobs published to is gone.
        progress: Whether to show a progress bar; by default on a terminal and in a notebook.

    Returns:
        What was done: `state` is published, staged, restored or unchanged.

    Raises:
        InputError: The recipe cannot be used.
        StoreMissingError: The store that earlier jobs published to is gone.
        RunStoppedError: Another job works on the same runs.
    """
    from mining.config.recipes import read_recipe
    from mining.label_store import job, publish
    from mining.label_store.cleanup import clean
    from mining.label_store.restore import restore_version
    from mining.label_store.settings import LabelSettings
    from mining.runs.inputs import resolve_thresholds
    from mining.runs.mining_job import mine as mine_corpus

    values = dict(recipe) if isinstance(recipe, Mapping) else read_recipe(Path(recipe))
    settings = parse(LabelSettings, values)
    if restore is None:
        _check(settings)
    with progress_bar("mine", progress) as report_progress, job.lock_job(settings):
        if restore is not None:
            return restore_version(settings, restore)
        settings = settings.model_copy(update={"mine": resolve_thresholds(settings.mine)})
        job.check_store(settings, new_store=new_store)
        summary = None
        while summary is None:
            unfinished = job.find_unfinished_run(settings)
            if unfinished is not None:
                mine_corpus(unfinished, _without_text(report_progress))
            plan = job.plan_labels(settings)
            if plan.run is not None:
                mine_corpus(plan.run, _without_text(report_progress))
            with suppress(publish.PartsDiscardedError):  # the next round mines them again
                summary = publish.publish_labels(settings, accept=accept, new_store=new_store)
        if settings.keep_runs is not None:
            clean(settings, settings.keep_runs, needs_store=False)
    return summary


def load_model(model: AnyPath, **options: Unpack[ExtractionKeywords]) -> "Localizer":
    """Load a model into memory, for boxes and heatmaps of single images without a run.

    Args:
        model: Model folder, what `train` returned, or pretrained:BACKBONE for ImageNet's classes.
        **options: The options of `boxmine mine` that concern boxes: scales, threshold, localizer, min_score, ...

    Raises:
        InputError: An option is unknown or out of range.
        ModelError: The model cannot be used.
    """
    from boxmine._localizer import Localizer
    from mining.models.pretrained import load_reference
    from mining.preflight import check_mining, check_model
    from mining.runs.inputs import resolve_thresholds

    here = Path.cwd()
    values: dict[str, Any] = {"images": here, "out": here, "curves": False, "model": os.fspath(model), **options}
    _refuse_other_processes(values)
    settings = resolve_thresholds(parse(MineSettings, values))
    check_mining(settings, check_model(settings.model), settings.model)
    return Localizer(*load_reference(settings.model, settings), settings)


def _values(**paths: AnyPath | None) -> dict[str, Any]:
    return {name: None if path is None else Path(path) for name, path in paths.items()}


def _check(settings: Any) -> None:
    from mining.preflight import check

    check(settings)


def _refuse_other_processes(options: Mapping[str, Any]) -> None:
    given = next((name for name in _OTHER_PROCESSES if name in options), None)
    if given is not None:
        raise InputError(
            f"{given!r} is an option of the command line: Python functions mine in this process. Use `boxmine mine` "
            "for several GPUs or machines."
        )


def _without_text(report_progress: Report) -> Callable[[int, int], None]:
    return lambda done, total: report_progress(done, total, "")
