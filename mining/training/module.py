"""A localizer as Lightning trains it: steps, validation metric, optimizer."""

from collections.abc import Sequence
from typing import Any

import lightning
import torch
from torch import Tensor
from torchmetrics.functional.classification import (
    binary_average_precision,
    multiclass_accuracy,
    multilabel_average_precision,
)

from mining.config import Objective, TrainSettings
from mining.localizers.base import ClassificationLoss, Localizer
from mining.models.card import ModelCard
from mining.training.chance import chance_of
from mining.training.data import Batch
from mining.training.distributed import all_gather
from mining.training.optim import optimizer_for, schedule_for

METRICS: dict[Objective, str] = {"single": "accuracy", "multi": "mean average precision"}
_BACKBONE = "localizer.backbone."  # beginning of the names of its weights


class LocalizerModule(lightning.LightningModule):
    """A localizer in training.

    Attributes:
        has_learned: (), whether any image was trained on; kept in the checkpoints.
        unreadable: File name to reason, of images that could not be read.
        metric_classes: (C,) bool, the classes that the validation metric is over.
        logged_names: Names of the losses logged in this epoch; Lightning also remembers those of earlier epochs.
    """

    has_learned: Tensor

    def __init__(
        self,
        localizer: Localizer,
        loss: ClassificationLoss,
        settings: TrainSettings,
        card: ModelCard,
        metric_classes: Sequence[bool],
    ) -> None:
        super().__init__()
        self.card = card
        self.localizer = localizer
        self.loss = loss
        self.settings = settings
        self.unreadable: dict[str, str] = {}
        self.logged_names: set[str] = set()
        self.metric_classes = torch.tensor(list(metric_classes))
        self.register_buffer("has_learned", torch.tensor(False))
        self._validated: dict[int, tuple[Tensor, Tensor]] = {}

    def training_step(self, batch: Batch, _: int) -> Tensor | None:
        """Return the sum of the localizer's losses; an empty batch is skipped."""
        self.unreadable.update(batch.unreadable)
        count, side = len(batch), self.card.input_size
        if not count:
            if self.trainer.world_size == 1:
                return None
            # the other devices wait for this one's gradients: it sends those of two black images, weighted with 0
            pixels = torch.zeros(2, 3, side, side, dtype=torch.uint8, device=self.device)
            targets = torch.zeros(2, len(self.card.classes), device=self.device)
            batch = Batch(pixels, targets, {}, [])
        else:
            self.has_learned.fill_(True)
        if batch.features:
            losses = self.localizer.training_step_from(batch.features, (side, side), batch.targets, self.loss)
        else:
            losses = self.localizer.training_step(batch.pixels, batch.targets, self.loss)
        total = torch.stack(list(losses.values())).sum()
        logged = {f"train_{name}": value for name, value in losses.items()} | {"train_loss": total}
        self.logged_names.update(logged)
        self.log_dict(logged, on_step=False, on_epoch=True, batch_size=count, sync_dist=True)
        return total * bool(count)

    def validation_step(self, batch: Batch, _: int) -> None:
        """Collect logits for the metrics of the epoch."""
        self.unreadable.update(batch.unreadable)
        if len(batch):
            from_features = bool(batch.features)
            logits = self.localizer.logits_from(batch.features) if from_features else self.localizer(batch.pixels)
            logits = logits.float()
            self._validated.update(zip(batch.indices, zip(logits, batch.targets, strict=True), strict=True))

    def on_validation_epoch_end(self) -> None:
        """Log the validation loss, and the metric where the validation images allow one."""
        # each of several devices has its share, which may repeat an image so that all shares have the same length
        validated = self._validated
        if self.trainer.world_size > 1:
            own = {index: (logits.cpu(), targets.cpu()) for index, (logits, targets) in validated.items()}
            validated = {index: pair for share in all_gather(own) for index, pair in share.items()}
        self._validated = {}
        if not validated:
            return
        logits, targets = (
            torch.stack(parts).to(self.device)
            for parts in zip(*(validated[index] for index in sorted(validated)), strict=True)
        )
        self.log("val_loss", self.loss(logits, targets), sync_dist=True)
        metric = classification_metric(logits, targets, self.loss.objective, self.metric_classes.to(self.device))
        if metric is not None:
            self.log("val_metric", metric, sync_dist=True)
            chance = chance_of(logits, targets, self.loss.objective, self.metric_classes.to(self.device))
            self.log_dict({"val_chance": chance.value, "val_chance_95": chance.highest}, sync_dist=True)

    def on_train_end(self) -> None:
        """Combine what the devices recorded."""
        for unreadable, has_learned in all_gather((self.unreadable, bool(self.has_learned))):
            self.unreadable.update(unreadable)
            self.has_learned.logical_or_(torch.tensor(has_learned, device=self.device))

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Leave out the weights of a frozen backbone, if nothing in it changes."""
        if self.localizer.frozen and self.localizer.trains_on_features:
            state = checkpoint["state_dict"]
            checkpoint["state_dict"] = {name: state[name] for name in state if not name.startswith(_BACKBONE)}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the weights that `on_save_checkpoint` left out."""
        own = {name: value for name, value in self.state_dict().items() if name.startswith(_BACKBONE)}
        checkpoint["state_dict"] = {**own, **checkpoint["state_dict"]}

    def configure_optimizers(self) -> Any:
        """Return the optimizer over the localizer's parameter groups, and the schedule over the planned steps."""
        optimizer = optimizer_for(self.localizer, self.settings)
        steps = int(self.trainer.estimated_stepping_batches)  # of one device
        return {"optimizer": optimizer, "lr_scheduler": schedule_for(optimizer, self.settings, steps)}


def classification_metric(
    logits: Tensor, targets: Tensor, objective: Objective, classes: Tensor | None = None
) -> Tensor | None:
    """Compute the validation metric: accuracy for 'single', mean average precision over classes for 'multi'.

    For 'single', images without a class are left out. For 'multi', classes that no image shows are left out, and so
    are those that all images show, whose average precision is 1 whatever the classifier says.

    Args:
        logits: (B, C).
        targets: (B, C) of 0 and 1.
        objective: Which of the two.
        classes: (C,) bool, the classes that the metric is over; by default all.

    Returns:
        A scalar in 0-1; None where nothing is left to measure.
    """
    classes = torch.ones(logits.shape[1], dtype=torch.bool, device=logits.device) if classes is None else classes
    if objective == "single":
        has_class = targets[:, classes].any(dim=1)
        if not has_class.any():
            return None
        return multiclass_accuracy(
            logits[has_class], targets[has_class].argmax(dim=1), logits.shape[1], average="micro"
        )
    classes = classes & targets.any(dim=0) & ~targets.all(dim=0)
    if not classes.any():
        return None
    if logits.shape[1] == 1:
        return binary_average_precision(logits[:, 0], targets[:, 0].int())
    per_class = multilabel_average_precision(logits, targets.int(), logits.shape[1], average=None)
    return per_class[classes].mean()
