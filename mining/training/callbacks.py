"""Lightning callbacks: a seed for each epoch, progress, and the history of losses and metrics."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import Callback

from mining.training.history import HISTORY_FILE, append_row
from mining.training.module import LocalizerModule

Progress = Callable[[int, int, str], None]


class EpochRecorder(Callback):
    """Seeds each epoch, reports progress and writes one row of history.csv per epoch.

    Every epoch has a seed of its own, so that a resumed training makes the draws that an uninterrupted one would have
    made. Lightning starts the loader of the first epoch while it makes the optimizer, that of later epochs after
    `on_train_epoch_start`; hence the several places that seed. The training itself sets the seed of epoch 0.

    Args:
        progress: Called with steps done, steps planned and a text.
        folder: Model folder.
        seed: Seed of epoch 0; each later one adds 1.
    """

    def __init__(self, progress: Progress, folder: Path, seed: int) -> None:
        self.progress = progress
        self.folder = folder
        self.seed = seed

    def on_load_checkpoint(self, _trainer: Any, _module: Any, checkpoint: dict[str, Any]) -> None:
        """Seed the epoch that a resumed training starts with, before its loader is started."""
        torch.manual_seed(self.seed + int(checkpoint["epoch"]) + 1)

    def on_train_epoch_start(self, trainer: lightning.Trainer, module: lightning.LightningModule) -> None:
        """Seed the epoch, and start it in the localizer."""
        torch.manual_seed(self.seed + trainer.current_epoch)
        if isinstance(module, LocalizerModule):
            module.localizer.start_epoch(trainer.current_epoch, module.settings.epochs)
        getattr(module, "logged_names", set()).clear()

    def on_train_batch_start(self, trainer: lightning.Trainer, _module: Any, _batch: Any, number: int) -> None:
        """Seed the first step again, after the loader has made its draws."""
        if number == 0:
            torch.manual_seed(self.seed + trainer.current_epoch)

    def on_train_batch_end(self, trainer: lightning.Trainer, *_: Any) -> None:
        """Report progress."""
        self.progress(
            trainer.global_step, int(trainer.estimated_stepping_batches), f"epoch {trainer.current_epoch + 1}"
        )

    def on_train_epoch_end(self, trainer: lightning.Trainer, module: lightning.LightningModule) -> None:
        """Write the epoch's row; losses that only earlier epochs had are left out."""
        if trainer.is_global_zero:
            logged: set[str] = getattr(module, "logged_names", set())
            values = {
                name: round(float(value), 6)
                for name, value in trainer.callback_metrics.items()
                if name in logged or not name.startswith("train_")
            }
            append_row(self.folder / HISTORY_FILE, {"epoch": trainer.current_epoch + 1, **values})
