"""The optimizer of a training, and the schedule of its learning rate."""

import math
from typing import Any

import torch

from mining.config import TrainOptions, TrainSettings
from mining.localizers.base import Localizer
from mining.training.localizer_defaults import restart_rate_of


def optimizer_for(localizer: Localizer, settings: TrainSettings) -> torch.optim.Optimizer:
    """Make AdamW or SGD over the localizer's groups; pretrained groups get `backbone_rate` where it is set."""
    rate = localizer.learning_rate if settings.learning_rate is None else settings.learning_rate
    groups: list[dict[str, Any]] = localizer.parameter_groups(rate)
    if settings.backbone_rate is not None:
        pretrained = localizer.pretrained_parameters()
        for group in groups:
            if all(id(parameter) in pretrained for parameter in group["params"]):
                group["lr"] = settings.backbone_rate
    if settings.optimizer == "sgd":
        return torch.optim.SGD(groups, momentum=settings.momentum, weight_decay=settings.weight_decay)
    return torch.optim.AdamW(groups, weight_decay=settings.weight_decay)


def schedule_for(optimizer: torch.optim.Optimizer, settings: TrainSettings, steps: int) -> dict[str, Any]:
    """Make the schedule as Lightning expects it.

    Args:
        optimizer: The optimizer.
        settings: Kind of schedule, epochs, restart.
        steps: Number of planned steps.
    """
    schedules = torch.optim.lr_scheduler
    if settings.schedule == "plateau":
        patience = settings.schedule_epochs - 1  # epochs before the one after which the rate falls
        falling = schedules.ReduceLROnPlateau(optimizer, factor=0.1, patience=patience)
        # not strict: an epoch whose images are all unreadable has no loss
        return {"scheduler": falling, "interval": "epoch", "monitor": "train_loss", "strict": False}
    if settings.schedule == "cosine" and not settings.restart:
        return {"scheduler": schedules.CosineAnnealingLR(optimizer, T_max=max(1, steps)), "interval": "step"}
    epoch_steps = max(1, steps // settings.epochs)
    shares = schedules.LambdaLR(optimizer, lambda step: rate_share(settings, step, epoch_steps))
    return {"scheduler": shares, "interval": "step"}


def rate_share(settings: TrainOptions, step: int, epoch_steps: int) -> float:
    """Compute the share of the learning rate at a step of a cosine, constant or step schedule that may restart.

    Args:
        settings: Kind of schedule, epochs, restart.
        step: From 0.
        epoch_steps: Steps per epoch.
    """
    start, end, share = 0, settings.epochs, 1.0
    if settings.restart:
        # rounded as localizers round their stages; with two epochs or more, each part has at least one
        again = max(1, min(round(settings.restart * end), end - 1))
        start, end, share = (0, again, 1.0) if step < again * epoch_steps else (again, end, restart_rate_of(settings))
    done, length = step - start * epoch_steps, max(1, end - start) * epoch_steps
    if settings.schedule == "cosine":
        return share * (1 + math.cos(math.pi * min(done, length) / length)) / 2
    falls = done // (epoch_steps * settings.schedule_epochs) if settings.schedule == "step" else 0
    return float(share * 0.1**falls)
