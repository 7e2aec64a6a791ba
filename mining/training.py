"""Fit a localizer from image-level labels, with Lightning."""

import csv
import logging
import shutil
import warnings
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import lightning
import numpy as np
import torch
from lightning.pytorch.callbacks import Callback, EarlyStopping, ModelCheckpoint
from torch import Tensor
from torch.utils.data import DataLoader
from torchmetrics.functional.classification import multiclass_accuracy, multilabel_average_precision

from mining import backbones
from mining.config import TrainSettings
from mining.corpus import iter_shards
from mining.errors import CorpusError, ModelError
from mining.files import whole_file, write_json
from mining.localizers.base import ClassificationLoss, Localizer, Objective
from mining.models import CARD_FILE, ModelCard, build_localizer, save_model
from mining.runs import cores, now, versions
from mining.training_data import Batch, ImageDataset, LabelledImages, class_weights, collate, hold_back

Progress = Callable[[int, int, str], None]
RECORD_FILE = "training.json"
HISTORY_FILE = "history.csv"
CURVES_FILE = "curves.png"
_NO_MATTER = {"out", "workers", "accelerator", "devices", "strategy"}


@dataclass(frozen=True)
class TrainingSummary:
    """folder: of the model. epochs: trained. best_epoch: whose weights were kept (from 1).

    metric: 'accuracy' or 'mean average precision' on the held-back images, value None without any.
    unreadable: file name to reason, of the images left out.
    """

    folder: Path
    images: int
    validation_images: int
    classes: int
    objective: Objective
    epochs: int
    best_epoch: int
    metric: str
    value: float | None
    seconds: float
    unreadable: dict[str, str]


class Fitting(lightning.LightningModule):
    """Lightning's view of a localizer that is trained."""

    def __init__(self, localizer: Localizer, loss: ClassificationLoss, settings: TrainSettings, steps: int) -> None:
        super().__init__()
        self.localizer = localizer
        self.loss = loss
        self.settings = settings
        self.steps = steps
        self.unreadable: dict[str, str] = {}
        self._validated: list[tuple[Tensor, Tensor]] = []

    def training_step(self, batch: Batch, _: int) -> Tensor | None:
        """Sum of the localizer's losses; an empty batch is passed over."""
        self.unreadable.update(batch.unreadable)
        if not len(batch.pixels):
            return None
        losses = self.localizer.training_step(batch.pixels, batch.targets, self.loss)
        total = torch.stack(list(losses.values())).sum()
        logged = {f"train_{name}": value for name, value in losses.items()} | {"train_loss": total}
        self.log_dict(logged, on_step=False, on_epoch=True, batch_size=len(batch.pixels), sync_dist=True)
        return total

    def validation_step(self, batch: Batch, _: int) -> None:
        """Collect logits for the epoch's figures."""
        self.unreadable.update(batch.unreadable)
        if len(batch.pixels):
            self._validated.append((self.localizer(batch.pixels).float(), batch.targets))

    def on_validation_epoch_end(self) -> None:
        """Log the validation loss and the metric over all held-back images."""
        if not self._validated:
            return
        logits, targets = (torch.cat(parts) for parts in zip(*self._validated, strict=True))
        self._validated.clear()
        self.log("val_loss", self.loss(logits, targets), sync_dist=True)
        self.log("val_metric", classification_metric(logits, targets, self.loss.objective), sync_dist=True)

    def configure_optimizers(self) -> Any:
        """AdamW over the localizer's groups, cosine decay to 0 over the planned steps."""
        groups = self.localizer.parameter_groups(self.settings.learning_rate)
        optimizer = torch.optim.AdamW(groups, weight_decay=self.settings.weight_decay)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=max(1, self.steps))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def classification_metric(logits: Tensor, targets: Tensor, objective: Objective) -> Tensor:
    """Share of right classes (single) or mean over present classes of average precision (multi), a scalar 0-1."""
    if objective == "single":
        return multiclass_accuracy(logits, targets.argmax(dim=1), logits.shape[1], average="micro")
    present = targets.any(dim=0)
    each = multilabel_average_precision(logits, targets.int(), logits.shape[1], average=None)
    return each[present].mean()


class _Recorder(Callback):
    """Tells the progress and keeps one row of figures an epoch."""

    def __init__(self, progress: Progress, folder: Path) -> None:
        self.progress = progress
        self.folder = folder

    def on_train_batch_end(self, trainer: lightning.Trainer, *_: Any) -> None:
        self.progress(
            trainer.global_step, int(trainer.estimated_stepping_batches), f"epoch {trainer.current_epoch + 1}"
        )

    def on_train_epoch_end(self, trainer: lightning.Trainer, module: lightning.LightningModule) -> None:
        if trainer.is_global_zero:
            figures = {name: round(float(value), 6) for name, value in trainer.callback_metrics.items()}
            append_row(self.folder / HISTORY_FILE, {"epoch": trainer.current_epoch + 1, **figures})


def append_row(path: Path, row: Mapping[str, Any]) -> None:
    """Put a row under those of earlier epochs; rows of the same or later epochs (from before a kill) go."""
    rows = [kept for kept in read_history(path) if int(kept["epoch"]) < int(row["epoch"])]
    rows.append({name: str(value) for name, value in row.items()})
    columns = list(dict.fromkeys(name for kept in rows for name in kept))
    with whole_file(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(rows)


def read_history(path: Path) -> list[dict[str, str]]:
    """The rows of history.csv, none when there is no such file."""
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


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
        raise CorpusError(
            f"No labelled image under {settings.images}: training needs class names. Give --labels (CSV, COCO JSON, "
            "VOC XML) or put the images into one folder a class."
        )
    if len(classes) < 2 and objective == "single":
        raise CorpusError(
            f"All images are labelled {classes[0]!r}: a classifier needs a second class, or images without the first "
            "(an empty `labels` cell), to tell apart."
        )
    targets = np.array([[name in one for name in classes] for one in labels], np.float32)
    return LabelledImages(settings.images, files, targets, classes)


def fit(
    settings: TrainSettings,
    corpus: Path,
    *,
    objective: Objective,
    category_ids: Mapping[str, int],
    progress: Progress = lambda done, total, text: None,
) -> TrainingSummary:
    """Train on the corpus's labelled images and write the model folder; carries on after a kill.

    corpus: the corpus table. category_ids: id of each class in the annotations.
    Raises CorpusError or ModelError; InputErrors name the remedy.
    """
    started = torch.cuda.Event if False else None
    del started
    images = labelled_images(corpus, settings, objective)
    _refuse_useless(settings)
    training, validation = hold_back(images, settings.validation_share, settings.seed)
    lightning.seed_everything(settings.seed, workers=True, verbose=False)
    card = _card(settings, images, objective, category_ids)
    localizer, _ = build_localizer(card, weights=settings.weights)
    card = ModelCard(**{**asdict(card), "normalisation": localizer.backbone.normalisation})
    if settings.freeze:
        localizer.freeze_backbone()
    weights = class_weights(training.targets, objective) if settings.balance else None
    loaders = [_loader(settings, part, card.input_size, augment=part is training) for part in (training, validation)]
    module = Fitting(localizer, ClassificationLoss(objective, weights), settings, settings.epochs * len(loaders[0]))
    trainer, best = _trainer(settings, progress, validated=len(validation) > 0)
    _run(trainer, module, loaders, settings.out / "checkpoints" / "last.ckpt", validated=len(validation) > 0)
    return _finish(settings, module, trainer, best, card, len(training), len(validation))
