"""A detector as Lightning trains it: steps, optimizer, schedule."""

import math
from typing import Any, cast

import lightning
import torch
from torch import Tensor

from mining.config import DetectorSettings
from mining.detection.boxes import DetectionTarget
from mining.detection.data import DetectionBatch
from mining.detection.network import Detector
from mining.detection.weight_average import average_of
from mining.errors import ModelError
from mining.training.distributed import all_gather

_BACKBONE_SHARE = 0.2  # of the learning rate, by default


class DetectorModule(lightning.LightningModule):
    """A detector in training.

    Attributes:
        detector: The detector that the steps change.
        average: The moving average of its weights; None unless the settings ask for one. Kept in the checkpoints.
        has_learned: (), whether any image was trained on; kept in the checkpoints.
        unreadable: Path to reason, of images that could not be read.
        logged_names: Names of the losses logged in this epoch.
    """

    has_learned: Tensor

    def __init__(self, detector: Detector, settings: DetectorSettings) -> None:
        super().__init__()
        self.detector = detector
        self.average = average_of(detector, settings.ema_decay) if settings.ema_decay else None
        self.settings = settings
        self.unreadable: dict[str, str] = {}
        self.logged_names: set[str] = set()
        self.register_buffer("has_learned", torch.tensor(False))

    @property
    def trained(self) -> Detector:
        """The detector that the training has made: the average of its weights, or those of the last step."""
        return self.detector if self.average is None else cast(Detector, self.average.module)

    @property
    def drop_share(self) -> float:
        """Share of the boxes that steps of this epoch leave out."""
        begins = math.ceil(self.settings.drop_after * self.settings.epochs)
        return self.settings.drop_share if self.current_epoch >= begins else 0.0

    def training_step(self, batch: DetectionBatch, _: int) -> Tensor | None:
        """Return the sum of the losses; an empty batch is skipped."""
        self.unreadable.update(batch.unreadable)
        count, images, targets = len(batch.images), batch.images, batch.targets
        if not count:
            if self.trainer.world_size == 1:
                return None
            # the other devices wait for this one's gradients: it sends those of a black image, weighted with 0
            images, targets = [self._black_image()], [_nothing().to(self.device)]
        else:
            self.has_learned.fill_(True)
        losses = self.detector.losses(images, targets, drop_share=self.drop_share)
        total = torch.stack(list(losses.values())).sum()
        # all devices stop together: one that waits for another would not know why that one ended
        if not self.trainer.strategy.reduce_boolean_decision(bool(total.isfinite())):
            raise diverged(self.settings)
        logged = {f"train_{name}": value for name, value in losses.items()} | {"train_loss": total}
        self.logged_names.update(logged)
        self.log_dict(logged, on_step=False, on_epoch=True, batch_size=count, sync_dist=True)
        return total * bool(count)

    def _black_image(self) -> Tensor:
        return torch.zeros(3, self.settings.side, self.settings.side, dtype=torch.uint8, device=self.device)

    def on_train_batch_end(self, *_: Any) -> None:
        """Let the average follow the weights."""
        if self.average is not None:
            self.average.update_parameters(self.detector)

    def on_train_end(self) -> None:
        """Combine what the devices recorded."""
        for unreadable, has_learned in all_gather((self.unreadable, bool(self.has_learned))):
            self.unreadable.update(unreadable)
            self.has_learned.logical_or_(torch.tensor(has_learned, device=self.device))

    def configure_optimizers(self) -> Any:
        """Return AdamW over backbone and new layers, and a cosine schedule with warm-up over the planned steps."""
        settings = self.settings
        backbone = [value for value in self.detector.backbone.parameters() if value.requires_grad]
        known = {id(value) for value in self.detector.backbone.parameters()}
        new = [value for value in self.detector.parameters() if id(value) not in known]
        rate = settings.backbone_rate or _BACKBONE_SHARE * settings.learning_rate
        groups = [{"params": new, "lr": settings.learning_rate}, {"params": backbone, "lr": rate}]
        optimizer = torch.optim.AdamW([g for g in groups if g["params"]], weight_decay=settings.weight_decay)
        steps = max(1, int(self.trainer.estimated_stepping_batches))
        warm_up = min(settings.warm_up, steps // 10)

        def share(step: int) -> float:
            rising = (step + 1) / (warm_up + 1)
            return min(1.0, rising) * (1 + math.cos(math.pi * min(step, steps) / steps)) / 2

        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, share)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def _nothing() -> DetectionTarget:
    """The target of an image that shows nothing."""
    return DetectionTarget(torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64), torch.zeros(0))


def diverged(settings: DetectorSettings) -> ModelError:
    """Return the error of a training whose loss or weights are no numbers any more."""
    return ModelError(f"The training of the detector diverged: give a learning rate below {settings.learning_rate:g}.")
