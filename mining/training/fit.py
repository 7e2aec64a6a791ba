"""Fit a localizer from image-level labels, with Lightning."""

import csv
import io
import logging
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from functools import partial
from multiprocessing import Lock
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.callbacks import Callback, EarlyStopping, ModelCheckpoint
from torch import Tensor
from torch.utils.data import DataLoader, Sampler, SequentialSampler
from torchmetrics.functional.classification import (
    binary_average_precision,
    multiclass_accuracy,
    multilabel_average_precision,
)

from mining.backbones import base
from mining.config import Objective, TrainSettings
from mining.config.execution import available_cores
from mining.corpus import iter_shards, read_summary
from mining.corpus.images.memory_budget import share_across_processes
from mining.errors import CorpusError, ModelError, ProcessLostError, describe_exit_code
from mining.localizers.base import ClassificationLoss, Localizer
from mining.models.card import CHECKPOINTS, ModelCard
from mining.models.checkpoint import build_localizer, save_model
from mining.storage.files import atomic_write, storage_errors
from mining.storage.provenance import package_versions, utc_now
from mining.storage.untrusted_files import open_input
from mining.training.checkpoints import read_checkpoint
from mining.training.data import (
    AugmentationConfig,
    Batch,
    ImageDataset,
    LabelledImages,
    Share,
    Shuffled,
    class_weights,
    collate,
    copies_of,
    reasons_none_is_readable,
    train_val_split,
)
from mining.training.distributed import all_gather, exit_code_of_lost, is_distributed, is_rank_zero
from mining.training.folder import HISTORY_FILE, delete_checkpoints, discard_training
from mining.training.label_contrast import contrast_notes, has_contrast, refuse_no_contrast
from mining.training.loader_memory import workers_that_fit
from mining.training.optim import optimizer_for, schedule_for
from mining.training.option_checks import refuse_blind_backbone, refuse_small_crops
from mining.training.summary import TrainingSummary

Progress = Callable[[int, int, str], None]
CURVES_FILE = "curves.png"
METRICS: dict[Objective, str] = {"single": "accuracy", "multi": "mean average precision"}


class LocalizerModule(lightning.LightningModule):
    """Lightning's view of a localizer that is trained.

    has_learned: (), whether any image was trained on; kept in the checkpoints.
    counted: (C,), the classes that the figure is of.
    epochs_losses: names of the losses that the epoch has had; Lightning remembers those of earlier epochs too.
    """

    has_learned: Tensor

    def __init__(
        self,
        localizer: Localizer,
        loss: ClassificationLoss,
        settings: TrainSettings,
        card: ModelCard,
        counted: Sequence[bool],
    ) -> None:
        super().__init__()
        self.card = card
        self.localizer = localizer
        self.loss = loss
        self.settings = settings
        self.unreadable: dict[str, str] = {}
        self.epochs_losses: set[str] = set()
        self.counted = torch.tensor(list(counted))
        self.register_buffer("has_learned", torch.tensor(False))
        self._validated: dict[int, tuple[Tensor, Tensor]] = {}

    def training_step(self, batch: Batch, _: int) -> Tensor | None:
        """Sum of the localizer's losses; an empty batch is passed over."""
        self.unreadable.update(batch.unreadable)
        count, pixels, targets = len(batch.pixels), batch.pixels, batch.targets
        if not count:
            if self.trainer.world_size == 1:
                return None
            # the other devices wait for this one's gradients: those of two black images, which weigh nothing
            side = self.card.input_size
            pixels = torch.zeros(2, 3, side, side, dtype=torch.uint8, device=self.device)
            targets = torch.zeros(2, len(self.card.classes), device=self.device)
        if count:
            self.has_learned.fill_(True)
        losses = self.localizer.training_step(pixels, targets, self.loss)
        total = torch.stack(list(losses.values())).sum()
        logged = {f"train_{name}": value for name, value in losses.items()} | {"train_loss": total}
        self.epochs_losses.update(logged)
        self.log_dict(logged, on_step=False, on_epoch=True, batch_size=count, sync_dist=True)
        return total * bool(count)

    def validation_step(self, batch: Batch, _: int) -> None:
        """Collect logits for the epoch's figures."""
        self.unreadable.update(batch.unreadable)
        if len(batch.pixels):
            logits = self.localizer(batch.pixels).float()
            self._validated.update(zip(batch.places, zip(logits, batch.targets, strict=True), strict=True))

    def on_validation_epoch_end(self) -> None:
        """Log the validation loss, and the metric where the held-back images can tell one."""
        # of several devices each has its share, in which an image may be filled in to make shares equal
        shown = self._validated
        if self.trainer.world_size > 1:
            own = {place: (logits.cpu(), targets.cpu()) for place, (logits, targets) in shown.items()}
            shown = {place: pair for share in all_gather(own) for place, pair in share.items()}
        self._validated = {}
        if not shown:
            return
        logits, targets = (
            torch.stack(parts).to(self.device) for parts in zip(*(shown[place] for place in sorted(shown)), strict=True)
        )
        self.log("val_loss", self.loss(logits, targets), sync_dist=True)
        counted = self.counted.to(self.device)
        metric = classification_metric(logits, targets, self.loss.objective, counted)
        if metric is not None:
            self.log("val_metric", metric, sync_dist=True)

    def on_train_end(self) -> None:
        """Put together what each device has seen."""
        for unreadable, has_learned in all_gather((self.unreadable, bool(self.has_learned))):
            self.unreadable.update(unreadable)
            self.has_learned.logical_or_(torch.tensor(has_learned, device=self.device))

    def configure_optimizers(self) -> Any:
        """The optimizer asked for over the localizer's groups, and the schedule over the planned steps."""
        optimizer = optimizer_for(self.localizer, self.settings)
        steps = int(self.trainer.estimated_stepping_batches)  # of several devices each takes its share of them
        return {"optimizer": optimizer, "lr_scheduler": schedule_for(optimizer, self.settings, steps)}


def classification_metric(
    logits: Tensor, targets: Tensor, objective: Objective, counted: Tensor | None = None
) -> Tensor | None:
    """Share of right classes (single) or mean over classes of average precision (multi), a scalar 0-1.

    counted: (C,) bool, classes that the figure is of; by default all. Classes that none of the images has are left
    out, and with several classes an image those that all have: whatever the classifier says, their precision is 1.
    Images without a class are left out of the share. None where nothing is left.
    """
    counted = torch.ones(logits.shape[1], dtype=torch.bool, device=logits.device) if counted is None else counted
    if objective == "single":
        of_counted = targets[:, counted].any(dim=1)
        if not of_counted.any():
            return None
        return multiclass_accuracy(
            logits[of_counted], targets[of_counted].argmax(dim=1), logits.shape[1], average="micro"
        )
    counted = counted & targets.any(dim=0) & ~targets.all(dim=0)
    if not counted.any():
        return None
    if logits.shape[1] == 1:
        return binary_average_precision(logits[:, 0], targets[:, 0].int())
    each = multilabel_average_precision(logits, targets.int(), logits.shape[1], average=None)
    return each[counted].mean()


class _Recorder(Callback):
    """Seeds each epoch, tells the progress and keeps one row of figures an epoch."""

    def __init__(self, progress: Progress, folder: Path, seed: int) -> None:
        self.progress = progress
        self.folder = folder
        self.seed = seed
        self.first_epoch = 0

    # Every epoch from a seed of its own, so that a training that was killed goes on with the draws it would have had.
    # Lightning asks for the first batches before it says that the first epoch begins, and of later epochs after.

    def on_load_checkpoint(self, _trainer: Any, _module: Any, checkpoint: dict[str, Any]) -> None:
        self.first_epoch = int(checkpoint["epoch"]) + 1

    def on_fit_start(self, *_: Any) -> None:
        torch.manual_seed(self.seed + self.first_epoch)

    def on_train_epoch_start(self, trainer: lightning.Trainer, module: lightning.LightningModule) -> None:
        torch.manual_seed(self.seed + trainer.current_epoch)
        if isinstance(module, LocalizerModule):
            module.localizer.start_epoch(trainer.current_epoch, module.settings.epochs)
            module.epochs_losses.clear()

    def on_train_batch_start(self, trainer: lightning.Trainer, _module: Any, _batch: Any, number: int) -> None:
        if number == 0:
            torch.manual_seed(self.seed + trainer.current_epoch)

    def on_train_batch_end(self, trainer: lightning.Trainer, *_: Any) -> None:
        self.progress(
            trainer.global_step, int(trainer.estimated_stepping_batches), f"epoch {trainer.current_epoch + 1}"
        )

    def on_train_epoch_end(self, trainer: lightning.Trainer, module: lightning.LightningModule) -> None:
        if trainer.is_global_zero:
            seen = module.epochs_losses if isinstance(module, LocalizerModule) else set()
            figures = {
                name: round(float(value), 6)
                for name, value in trainer.callback_metrics.items()
                if name in seen or not name.startswith("train_")
            }
            append_row(self.folder / HISTORY_FILE, {"epoch": trainer.current_epoch + 1, **figures})


def append_row(path: Path, row: Mapping[str, Any]) -> None:
    """Put a row under those of earlier epochs; rows of the same or later epochs (from before a kill) go."""
    rows = [kept for kept in read_history(path) if int(kept["epoch"]) < int(row["epoch"])]
    rows.append({name: str(value) for name, value in row.items()})
    columns = list(dict.fromkeys(name for kept in rows for name in kept))
    with atomic_write(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(rows)


def read_history(path: Path) -> list[dict[str, str]]:
    """The rows of history.csv, none when there is no such file."""
    if not path.exists():
        return []
    try:
        with open_input(path) as file, io.TextIOWrapper(file, encoding="utf-8", newline="") as text:
            rows = list(csv.DictReader(text))
        if not all(int(row["epoch"]) > 0 for row in rows):
            raise ValueError("an epoch is not above 0")
    except (OSError, ValueError, KeyError, TypeError, csv.Error) as error:
        raise ModelError(
            f"{path} is damaged ({error}). Delete it together with {path.parent / CHECKPOINTS} and run the same "
            "command again to train from the start."
        ) from None
    return rows


def labelled_images(corpus: Path, settings: TrainSettings, objective: Objective) -> LabelledImages:
    """The corpus's labelled rows; for 'single' those with exactly one class. Raises CorpusError when there are none."""
    files: list[str] = []
    labels: list[list[str]] = []
    for table in iter_shards(corpus):
        for row in table.select(["file_name", "labels", "bytes"]).to_pylist():
            usable = row["labels"] is not None and (objective == "multi" or len(row["labels"]) == 1)
            if usable and row["bytes"] is not None:
                files.append(row["file_name"])
                labels.append(row["labels"])
    classes = sorted({name for one in labels for name in one})
    if not classes:
        needed = (
            f"No labelled image under {settings.images}: training needs class names. Give --labels (CSV, COCO JSON, "
            "VOC XML) or put the images into one folder a class."
        )
        raise CorpusError(" ".join([needed, *read_summary(corpus).notes]))
    if len(classes) < 2 and objective == "single":
        raise CorpusError(
            f"All images are labelled {classes[0]!r}: a classifier needs a second class, or images without the first "
            "(an empty `labels` cell), to tell apart."
        )
    # filled in place: of ILSVRC they are 1.3 billion cells
    place = {name: column for column, name in enumerate(classes)}
    targets = np.zeros((len(labels), len(classes)), np.float32)
    for row, one in enumerate(labels):
        targets[row, [place[name] for name in one]] = 1
    return LabelledImages(settings.images, files, targets, classes)


def fit(
    settings: TrainSettings,
    corpus: Path,
    *,
    objective: Objective,
    category_ids: Mapping[str, int],
    notes: Sequence[str] = (),
    missing: int = 0,
    progress: Progress = lambda done, total, text: None,
) -> TrainingSummary:
    """Train on the corpus's labelled images and write the model folder; carries on after a kill.

    corpus: the corpus table. category_ids: id of each class in the annotations.
    notes: about the corpus, kept in the record. missing: listed images that are not there, kept likewise.
    Raises CorpusError or ModelError; InputErrors name the remedy.
    """
    images = labelled_images(corpus, settings, objective)
    refuse_blind_backbone(settings)
    refuse_no_contrast(images.targets, images.classes)
    metric = METRICS[objective]
    notes = [*notes, *contrast_notes(images.targets, images.classes, metric)]
    copies = copies_of(images) if settings.validation_share else {}
    training, validation = train_val_split(images, settings.validation_share, settings.seed, copies)
    with _quiet():
        lightning.seed_everything(settings.seed, workers=True, verbose=False)
        card = _card(settings, images.classes, objective, category_ids)
        refuse_small_crops(settings, card.input_size)
        localizer, _ = build_localizer(card, weights=settings.weights)
        if settings.freeze:
            localizer.freeze_backbone()
        localizer = localizer.to(memory_format=torch.channels_last)
        weights = class_weights(training.targets, objective) if settings.balance else None
        unusable = reasons_none_is_readable(validation)
        validated = len(unusable) < len(validation)
        trainer, best = _trainer(settings, progress, validated=validated, kind=type(localizer))
        workers, shortage = _loader_workers(settings, card, trainer, loaders=1 + validated)
        batches = _loader(settings, training, card.input_size, trainer, workers, augment=True)
        held_back = (
            _loader(settings, validation, card.input_size, trainer, workers, augment=False) if validated else None
        )
        counted = has_contrast(images.targets).tolist()
        module = LocalizerModule(localizer, ClassificationLoss(objective, weights), settings, card, counted)
        module.unreadable.update(unusable)
        seconds = _run(trainer, module, batches, held_back, settings.out / CHECKPOINTS / "last.ckpt")
    if not is_rank_zero():
        sys.exit()  # the first process has it all
    if not module.has_learned:
        discard_training(settings.out)
        reason = next(iter(module.unreadable.values()), "")
        raise CorpusError(f"None of the {len(training)} images to train on could be read, e.g. {reason}")
    notes = [*notes, *shortage]
    return _finish(settings, module, best, card, (len(training), len(validation)), seconds, notes, missing)


def _card(
    settings: TrainSettings, classes: list[str], objective: Objective, category_ids: Mapping[str, int]
) -> ModelCard:
    return ModelCard(
        localizer=settings.localizer,
        options=settings.options,
        backbone=settings.backbone,
        objective=objective,
        classes=[{"id": category_ids[name], "name": name} for name in classes],
        input_size=settings.input_size or base.spec_of(settings.backbone).input_size,
        normalisation={},
    )


def _loader_workers(
    settings: TrainSettings, card: ModelCard, trainer: lightning.Trainer, *, loaders: int
) -> tuple[int, list[str]]:
    """Processes that each loader has, and a sentence where shared memory allows fewer than asked for."""
    wanted = min(8, available_cores()) if settings.workers is None else settings.workers
    images = -(-settings.batch_size // trainer.world_size)
    batch_bytes = images * (3 * card.input_size**2 + 4 * len(card.classes))
    return workers_that_fit(wanted, batch_bytes, loaders=loaders, processes=trainer.world_size)


def _loader(
    settings: TrainSettings,
    images: LabelledImages,
    size: int,
    trainer: lightning.Trainer,
    workers: int,
    *,
    augment: bool,
) -> DataLoader[Any]:  # fmt: skip
    """Of the device's share of the images, and of each step's."""
    every: Sampler[Any] = Shuffled(len(images)) if augment else SequentialSampler(images)
    variation = AugmentationConfig(settings.crop_from, settings.flip, settings.colour)
    return DataLoader(
        ImageDataset(images, size, augment=augment, variation=variation),
        batch_size=-(-settings.batch_size // trainer.world_size),
        sampler=Share(every, trainer.global_rank, trainer.world_size),
        num_workers=workers,
        collate_fn=collate,
        pin_memory=torch.cuda.is_available(),
        persistent_workers=workers > 0,
        worker_init_fn=partial(share_across_processes, Lock()) if workers else None,
        drop_last=augment and len(images) > settings.batch_size and not settings.freeze,
    )


def _trainer(
    settings: TrainSettings, progress: Progress, *, validated: bool, kind: type[Localizer]
) -> tuple[lightning.Trainer, ModelCheckpoint]:
    monitor = "val_loss" if validated else "train_loss"
    last = _checkpoint(settings, "last", monitor=None)
    best = last if kind.keeps_last else _checkpoint(settings, "best", monitor=monitor)
    callbacks: list[Callback] = [_Recorder(progress, settings.out, settings.seed)]
    if validated and not kind.keeps_last:
        callbacks.append(EarlyStopping(monitor, patience=settings.patience))
    callbacks += [best, last] if best is not last else [last]  # last knows what the others came to
    precision = settings.precision
    if precision == "auto":
        precision = "16-mixed" if torch.cuda.is_available() and settings.accelerator in ("auto", "gpu") else "32-true"
    strategy = settings.strategy
    if strategy == "auto" and kind.trains_in_stages and is_distributed(settings):
        strategy = "ddp_find_unused_parameters_true"
    with _refused_in_words():
        trainer = lightning.Trainer(
            accelerator=settings.accelerator,
            devices=int(settings.devices) if settings.devices.isdigit() else settings.devices,
            strategy=strategy,
            precision=precision,  # type: ignore[arg-type]
            max_epochs=settings.epochs,
            callbacks=callbacks,
            logger=False,
            use_distributed_sampler=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
            default_root_dir=settings.out,
        )

    return trainer, best


@contextmanager
def _refused_in_words() -> Iterator[None]:
    """Raise what Lightning has to say of an accelerator that is not there, or a precision it does not know."""
    try:
        yield
    except (MisconfigurationException, TypeError, ValueError) as error:
        raise ModelError(f"Lightning cannot train so: {' '.join(str(error).split())}") from None


def _checkpoint(settings: TrainSettings, name: str, *, monitor: str | None) -> ModelCheckpoint:
    """Keeps the epoch that is best by `monitor`, or the last one."""
    # ModelCheckpoint's own save_last leaves out epochs that gain nothing
    return ModelCheckpoint(
        settings.out / CHECKPOINTS, name, monitor=monitor, save_on_train_epoch_end=True, enable_version_counter=False
    )


def _run(
    trainer: lightning.Trainer,
    module: LocalizerModule,
    batches: DataLoader[Any],
    held_back: DataLoader[Any] | None,
    last: Path,
) -> float:
    started = time.monotonic()
    if last.is_file():
        read_checkpoint(last)  # Lightning would end in one of many ways
    try:
        with storage_errors(last):
            trainer.fit(module, batches, held_back, ckpt_path=last if last.is_file() else None, weights_only=True)
    except SystemExit:  # how Lightning ends a process on Ctrl-C
        if trainer.interrupted:
            raise KeyboardInterrupt from None
        raise
    except RuntimeError as error:  # whatever the backend says of a connection that was cut
        code = exit_code_of_lost(getattr(trainer.strategy.launcher, "procs", []))
        if code is None:
            raise
        raise ProcessLostError(
            f"The process of a further device {describe_exit_code(code)}. The same command carries on."
        ) from error
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
) -> TrainingSummary:
    rows = read_history(settings.out / HISTORY_FILE)
    kept = read_checkpoint(Path(best.best_model_path))
    module.load_state_dict(kept["state_dict"])
    _refuse_diverged(module.localizer, settings)
    chosen = next((row for row in rows if int(row["epoch"]) == int(kept["epoch"]) + 1), {})
    metric = METRICS[card.objective]
    value = float(chosen["val_metric"]) if chosen.get("val_metric") else None
    summary = TrainingSummary(
        settings.out, *sizes, len(card.classes), card.objective, len(rows), int(kept["epoch"]) + 1, metric, value,
        round(seconds, 1), dict(sorted(module.unreadable.items())), notes, missing,
    )  # fmt: skip
    draw_curves(rows, settings.out / CURVES_FILE, metric)
    record = {
        **{name: item for name, item in asdict(summary).items() if name != "folder"},
        "settings": settings.model_dump(mode="json", exclude={"out"}),
        "versions": package_versions(), "finished": utc_now(),
    }  # fmt: skip
    localizer = module.localizer
    save_model(settings.out, localizer, replace(card, normalisation=localizer.backbone.normalisation, training=record))
    delete_checkpoints(settings.out)
    return summary


def _refuse_diverged(localizer: Localizer, settings: TrainSettings) -> None:
    if not all(bool(value.isfinite().all()) for value in localizer.parameters()):
        discard_training(settings.out)
        raise ModelError(
            "The training diverged: its weights hold NaN or infinity. Give a --learning-rate below "
            f"{settings.learning_rate or localizer.learning_rate:g}."
        )


def draw_curves(rows: list[dict[str, str]], path: Path, metric: str) -> None:
    """Loss and metric by epoch, as PNG."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 3), layout="constrained")
    losses, metrics = figure.subplots(1, 2)
    for axes, names in ((losses, ("train_loss", "val_loss")), (metrics, ("val_metric",))):
        for name in names:
            points = [(int(row["epoch"]), float(row[name])) for row in rows if row.get(name)]
            if points:
                axes.plot(*zip(*points, strict=True), marker="o", markersize=3, label=name.replace("_", " "))
        axes.set_xlabel("epoch")
        axes.grid(alpha=0.3)
    losses.set_ylabel("loss")
    losses.legend()
    metrics.set_ylabel(f"{metric} (held back)")
    with atomic_write(path) as temporary:
        figure.savefig(temporary, format="png", dpi=110)


@contextmanager
def _quiet() -> Iterator[None]:
    """Lightning's hints are for its developers; errors still come through."""
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
