"""Fit a localizer from image-level labels, with Lightning."""

import logging
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.callbacks import Callback, EarlyStopping, ModelCheckpoint

from mining.backbones.registry import spec_of
from mining.config import Objective, TrainSettings
from mining.errors import CorpusError, ModelError
from mining.ground_truth.reading import GroundTruth
from mining.localizers.base import ClassificationLoss, Localizer
from mining.localizers.option_values import options_for_objective
from mining.models.card import CHECKPOINTS, TRUE_BOXES, ModelCard
from mining.models.checkpoint import save_model
from mining.runtimes.worker_threads import restored_threads
from mining.storage.files import storage_errors
from mining.storage.provenance import package_versions, utc_now
from mining.training.callbacks import EpochRecorder, Progress
from mining.training.cells import CellTraining, train_cell_classifier
from mining.training.chance import loss_of_guessing, warn_of_chance
from mining.training.checkpoints import read_checkpoint
from mining.training.distributed import is_distributed, is_rank_zero, lost_processes_named
from mining.training.folder import delete_checkpoints, discard_training
from mining.training.frozen_features import feature_precision
from mining.training.history import CURVES_FILE, HISTORY_FILE, draw_curves, read_history
from mining.training.label_contrast import has_contrast, refuse_no_contrast
from mining.training.label_warnings import warn_of_labels
from mining.training.labelled_images import (
    class_weights,
    copies_of,
    read_labelled_images,
    train_val_split,
    unreadable_if_all,
)
from mining.training.module import METRICS, LocalizerModule
from mining.training.option_checks import refuse_blind_backbone, refuse_small_crops
from mining.training.pictures import PictureWriter
from mining.training.start import build_to_train
from mining.training.summary import TrainingSummary
from mining.training.training_data import TrainingData
from mining.training.true_cells import image_digests, true_objects

_log = logging.getLogger(__name__)


def fit(
    settings: TrainSettings,
    corpus: Path,
    *,
    objective: Objective,
    category_ids: Mapping[str, int],
    notes: Sequence[str] = (),
    missing: int = 0,
    true_boxes: GroundTruth | None = None,
    progress: Progress = lambda done, total, text: None,
) -> TrainingSummary:
    """Train on the labelled images of a corpus and write the model folder; resumes an interrupted training.

    Args:
        settings: How to train.
        corpus: The corpus table.
        objective: One class per image, or several.
        category_ids: Id of each class in the annotations.
        notes: Sentences about the corpus, kept in the training record.
        missing: Number of listed images that do not exist, kept likewise.
        true_boxes: True boxes of a few of the images, see `read_checked_boxes`.
        progress: Called after each step with steps done, steps planned and a text.

    Raises:
        CorpusError: The images cannot be trained on.
        ModelError: The settings contradict each other, the training diverged, or its files are damaged.
        ProcessLostError: The process of a further device ended.
    """
    images = read_labelled_images(corpus, settings, objective)
    refuse_blind_backbone(settings)
    refuse_no_contrast(images.targets, images.classes)
    of_labels = warn_of_labels(
        images.targets, images.classes, METRICS[objective], can_give_boxes=settings.cells and settings.boxes is None
    )
    if is_rank_zero():
        for sentence in of_labels:  # the summary has them too, but a training may take a day
            _log.warning("%s", sentence)
    copies = copies_of(images) if settings.validation_share else {}
    training, validation = train_val_split(images, settings.validation_share, settings.seed, copies)
    with without_lightning_hints():
        lightning.seed_everything(settings.seed, workers=True, verbose=False)
        card = _make_card(settings, images.classes, objective, category_ids)
        refuse_small_crops(settings, card.input_size)
        localizer, started_from = build_to_train(card, settings)
        notes = [*notes, *started_from]
        if settings.freeze:
            localizer.freeze_backbone()
        localizer = localizer.to(memory_format=torch.channels_last)
        weights = class_weights(training.targets, objective) if settings.balance else None
        localizer.start_from_class_shares(torch.from_numpy(training.targets.mean(axis=0)), objective, weights)
        unreadable = unreadable_if_all(validation)
        has_validation = len(unreadable) < len(validation)
        callbacks: list[Callback] = [EpochRecorder(progress, settings.out, settings.seed)]
        if settings.pictures:
            callbacks.append(PictureWriter(settings, training, card.input_size))
        trainer, best = _make_trainer(settings, callbacks, has_validation=has_validation, kind=type(localizer))
        data = TrainingData(
            settings, localizer, card.input_size, training, validation if has_validation else None,
            progress=lambda done, total: progress(done, total, "features"),
        )  # fmt: skip
        metric_classes = has_contrast(images.targets).tolist()
        module = LocalizerModule(localizer, ClassificationLoss(objective, weights), settings, card, metric_classes)
        module.unreadable.update(unreadable)
        seconds = _run(trainer, module, data, settings.out / CHECKPOINTS / "last.ckpt")
    if not is_rank_zero():
        sys.exit()  # the first process writes the model
    if not module.has_learned:
        discard_training(settings.out)
        reason = next(iter(module.unreadable.values()), "")
        raise CorpusError(f"None of the {len(training)} images to train on could be read, e.g. {reason}")
    notes = [*notes, *data.notes]

    objects, taught = {}, None
    if true_boxes is not None:
        objects = true_objects(true_boxes, images.files, images.classes)
        taught = {"sha256": true_boxes.sha256, "images": image_digests(images, objects)}
        if len(objects) < len(true_boxes.file_names):
            unused = len(true_boxes.file_names) - len(objects)
            notes.append(f"{unused} of the images with true boxes are not labelled, or cannot be read; not used.")

    def train_cells(localizer: Localizer) -> CellTraining:
        return train_cell_classifier(
            localizer, images, input_size=card.input_size, device=trainer.strategy.root_device, seed=settings.seed,
            threads=data.threads, runtime=settings.runtime, precision=feature_precision(settings.precision),
            objects=objects,
            progress=lambda done, total: progress(done, total, "cell classifier"),
        )  # fmt: skip

    guessing = loss_of_guessing(training.targets, objective, weights)

    def warn(rows: Sequence[Mapping[str, str]], epoch: int) -> list[str]:
        of_chance = warn_of_chance(
            rows,
            epoch,
            metric=METRICS[objective],
            guessing=guessing,
            images=len(validation),
            one_step=len(training) <= settings.batch_size,
            settings=settings,
        )
        return [*of_labels, *of_chance]

    sizes = len(training), len(validation)
    return _finish(settings, module, best, card, sizes, seconds, notes, missing, train_cells, warn, taught)


def _make_card(
    settings: TrainSettings, classes: list[str], objective: Objective, category_ids: Mapping[str, int]
) -> ModelCard:
    return ModelCard(
        localizer=settings.localizer,
        options=options_for_objective(settings.localizer, settings.options, objective),
        backbone=settings.backbone,
        objective=objective,
        classes=[{"id": category_ids[name], "name": name} for name in classes],
        input_size=settings.input_size or spec_of(settings.backbone).input_size,
        normalisation={},
    )


def _make_trainer(
    settings: TrainSettings, callbacks: list[Callback], *, has_validation: bool, kind: type[Localizer]
) -> tuple[lightning.Trainer, ModelCheckpoint]:
    """Make Lightning's trainer, and the checkpoint whose weights will be kept."""
    monitor = "val_loss" if has_validation else "train_loss"
    last = _checkpoint(settings, "last", monitor=None)
    best = last if kind.keeps_last else _checkpoint(settings, "best", monitor=monitor)
    if has_validation and not kind.keeps_last:
        callbacks.append(EarlyStopping(monitor, patience=settings.patience))
    callbacks += [best, last] if best is not last else [last]  # `last` comes last, to store the others' state
    precision = settings.precision
    if precision == "auto":
        precision = "16-mixed" if torch.cuda.is_available() and settings.accelerator in ("auto", "gpu") else "32-true"
    strategy = settings.strategy
    if strategy == "auto" and kind.trains_in_stages and is_distributed(settings):
        strategy = "ddp_find_unused_parameters_true"
    with lightning_refusals():
        trainer = lightning.Trainer(
            accelerator=settings.accelerator,
            devices=int(settings.devices) if settings.devices.isdigit() else settings.devices,
            strategy=strategy,
            precision=precision,  # type: ignore[arg-type]
            max_epochs=settings.epochs,
            callbacks=callbacks,
            logger=False,
            use_distributed_sampler=False,  # see `device_share`
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
            default_root_dir=settings.out,
        )
    return trainer, best


@contextmanager
def lightning_refusals() -> Iterator[None]:
    """Turn Lightning's errors (no such accelerator, unknown precision) into ModelError."""
    try:
        yield
    except (MisconfigurationException, TypeError, ValueError) as error:
        raise ModelError(f"Lightning refuses these settings: {' '.join(str(error).split())}") from None


def _checkpoint(settings: TrainSettings, name: str, *, monitor: str | None) -> ModelCheckpoint:
    """Keep the epoch that is best by `monitor`, or the last one where that is None."""
    # ModelCheckpoint's own save_last skips epochs that did not improve
    return ModelCheckpoint(
        settings.out / CHECKPOINTS, name, monitor=monitor, save_on_train_epoch_end=True, enable_version_counter=False
    )


def _run(
    trainer: lightning.Trainer,
    module: LocalizerModule,
    data: TrainingData,
    last: Path,
) -> float:
    """Train, from the last checkpoint where there is one; returns seconds."""
    started = time.monotonic()
    if last.is_file():
        read_checkpoint(last)  # Lightning itself fails in many ways on a damaged one
    checkpoint = last if last.is_file() else None
    try:
        with lost_processes_named(trainer), storage_errors(last), restored_threads():
            trainer.fit(module, datamodule=data, ckpt_path=checkpoint, weights_only=True)
    except SystemExit:  # how Lightning ends a process on Ctrl-C
        if trainer.interrupted:
            raise KeyboardInterrupt from None
        raise
    return time.monotonic() - started


def _finish(
    settings: TrainSettings,
    module: LocalizerModule,
    best: ModelCheckpoint,
    card: ModelCard,
    sizes: tuple[int, int],
    seconds: float,
    notes: list[str],
    missing: int,
    train_cells: Callable[[Localizer], CellTraining],
    warn: Callable[[Sequence[Mapping[str, str]], int], list[str]],
    taught: Mapping[str, Any] | None,
) -> TrainingSummary:
    """Write the model folder from the best checkpoint, and delete the checkpoints.

    A training that is killed while its cell classifier is trained resumes with the classifier: the epochs are in the
    last checkpoint.
    """
    rows = read_history(settings.out / HISTORY_FILE)
    kept = read_checkpoint(Path(best.best_model_path))
    module.on_load_checkpoint(kept)
    module.load_state_dict(kept["state_dict"])
    _refuse_diverged(module.localizer, settings)
    best_row = next((row for row in rows if int(row["epoch"]) == int(kept["epoch"]) + 1), {})
    localizer = module.localizer
    cells = train_cells(localizer) if settings.cells else None
    if cells is not None:
        localizer.cells = cells.classifier
        notes = [*notes, *cells.notes]
    metric = METRICS[card.objective]
    value = float(best_row["val_metric"]) if best_row.get("val_metric") else None
    summary = TrainingSummary(
        settings.out, *sizes, len(card.classes), card.objective, len(rows), int(kept["epoch"]) + 1, metric, value,
        round(seconds, 1), dict(sorted(module.unreadable.items())), notes, missing,
        warn(rows, int(kept["epoch"]) + 1),
    )  # fmt: skip
    draw_curves(rows, settings.out / CURVES_FILE, metric)
    record = {
        **{name: item for name, item in asdict(summary).items() if name != "folder"},
        "settings": settings.model_dump(mode="json", exclude={"out"}),
        "cells": None if cells is None else asdict(cells.record),
        "inputs": {} if taught is None else {TRUE_BOXES: taught},
        "versions": package_versions(), "finished": utc_now(),
    }  # fmt: skip
    spec = None if localizer.cells is None else localizer.cells.spec
    written = replace(card, normalisation=localizer.backbone.normalisation, training=record, cells=spec)
    save_model(settings.out, localizer, written)
    delete_checkpoints(settings.out)
    return summary


def _refuse_diverged(localizer: Localizer, settings: TrainSettings) -> None:
    if not all(bool(value.isfinite().all()) for value in localizer.parameters()):
        discard_training(settings.out)
        raise ModelError(
            "The training diverged: its weights hold NaN or infinity. Give a --learning-rate below "
            f"{settings.learning_rate or localizer.learning_rate:g}."
        )


@contextmanager
def without_lightning_hints() -> Iterator[None]:
    """Suppress Lightning's warnings and hints, which are meant for its developers; errors still come through."""
    loggers = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric", "lightning")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
