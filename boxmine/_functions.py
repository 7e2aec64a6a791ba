"""Functions that make something new in this process: train, mine, import boxes, draw maps, run a labelling job."""

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

from boxmine._keywords import AnyPath, MapsKeywords, MineKeywords, TrainKeywords
from boxmine._progress import Report, progress_bar
from boxmine._results import TrainedModel
from boxmine._run import Run
from boxmine._settings import check_settings, path_values, refuse_other_processes
from mining.config import MapsSettings, MineSettings, TrainSettings, parse
from mining.errors import InputError

if TYPE_CHECKING:
    from mining.label_store.summaries import LabelSummary
    from mining.reporting.maps_page import MapsSummary


def train(
    images: AnyPath,
    *,
    out: AnyPath,
    labels: AnyPath | None = None,
    boxes: AnyPath | None = None,
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
        boxes: True boxes of a few of the images, to learn from: COCO JSON, VOC XML or CUB folder.
        progress: Whether to show a progress bar; by default on a terminal and in a notebook.
        **options: The options of `boxmine train`: epochs, localizer, backbone, seed, ...

    Returns:
        The model, which `mine` and `load_model` take.

    Raises:
        InputError: An option is unknown or out of range, or asks for several devices.
        CorpusError: The images or labels cannot be used.
        ModelError: `out` holds another model, or the localizer, backbone or weights are unknown.
        ScoringError: Some of `boxes` cannot be learned from.
    """
    from mining.training.distributed import is_distributed
    from mining.training.job import train as train_model

    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
    paths = path_values(images=images, labels=labels, out=out, boxes=boxes)
    settings = parse(TrainSettings, {**paths, "devices": "1", **options})
    if is_distributed(settings):
        raise InputError(
            f"devices={settings.devices!r} asks for several processes, which a function call cannot start; "
            "use the command `boxmine train` for several devices."
        )
    check_settings(settings)
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

    values = {**path_values(images=images, labels=labels, out=out), "model": os.fspath(model), **options}
    refuse_other_processes(values)
    settings = parse(MineSettings, values)
    check_settings(settings)
    with progress_bar("mine", progress) as report_progress:
        mine_corpus(settings, _without_text(report_progress))
    return Run(settings.out)


def import_boxes(
    coco: AnyPath, *, images: AnyPath, out: AnyPath, dataset: AnyPath | None = None, progress: bool | None = None
) -> Run:
    """Import boxes that another tool made, as a finished run that can be scored, reported, compared and exported.

    Args:
        coco: COCO data set, whose annotations may have a score from 0 to 1; or a COCO results list, with `dataset`.
        images: Folder of the images.
        out: Run directory to write, a new or empty folder.
        dataset: COCO data set with the images and categories that COCO results refer to.
        progress: Whether to show a progress bar; by default on a terminal and in a notebook.

    Returns:
        The run. `notes` says what was left out, `quarantine` which images could not be used.

    Raises:
        InputError: A results list comes without `dataset`, some boxes have a score and others have none, a score is not
            between 0 and 1, or `out` is not empty.
        CorpusError: The COCO file is missing or damaged, or all of its images are missing.
        ScoringError: The boxes are clearly not x, y, width, height in pixels.
    """
    from mining.imports import import_boxes as import_coco

    paths = path_values(coco=coco, images=images, out=out, dataset=dataset)
    with progress_bar("import", progress) as report_progress:
        import_coco(**paths, progress=_without_text(report_progress))
    return Run(paths["out"])


def maps(
    models: AnyPath | Sequence[AnyPath],
    images: AnyPath | Sequence[AnyPath],
    *,
    out: AnyPath,
    progress: bool | None = None,
    **options: Unpack[MapsKeywords],
) -> "MapsSummary":
    """Show localizers side by side on the same images, as one HTML page.

    Args:
        models: Model folders, what `train` returned, or pretrained:BACKBONE; one or several.
        images: Image files, or folders of images; one or several.
        out: Page to write, an .html file.
        progress: Whether to show a progress bar; by default on a terminal and in a notebook.
        **options: The options of `boxmine maps`: classes, localizers, max_images, ...

    Returns:
        The page, and which images could not be read or were left out.

    Raises:
        InputError: An option is out of range, or something else is at `out`.
        ModelError: A model cannot be used, or none knows a class or serves a localizer.
        CorpusError: An image does not exist, or none can be read.
    """
    from mining.reporting.maps_page import write_maps_page

    values = {**path_values(out=out), "models": _path_texts(models), "images": _path_texts(images), **options}
    settings = parse(MapsSettings, values)
    check_settings(settings)
    with progress_bar("maps", progress) as report_progress:
        return write_maps_page(settings, _without_text(report_progress))


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
        check_settings(settings)
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


def _path_texts(paths: AnyPath | Sequence[AnyPath]) -> list[str]:
    return [os.fspath(one) for one in ([paths] if isinstance(paths, str | os.PathLike) else paths)]


def _without_text(report_progress: Report) -> Callable[[int, int], None]:
    return lambda done, total: report_progress(done, total, "")
