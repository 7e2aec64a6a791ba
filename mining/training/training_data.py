"""The batches of a training: images, or where the backbone is frozen, the features that it computes from them."""

from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

import lightning
import torch
from torch.utils.data import DataLoader

from mining.config import TrainSettings
from mining.config.execution import available_cores
from mining.localizers.base import Localizer
from mining.models.card import CHECKPOINTS
from mining.models.weights_digest import digest_weights
from mining.runtimes.worker_threads import MAX_THREADS
from mining.storage.provenance import package_versions
from mining.training.data import (
    Batch,
    ImageDataset,
    collate,
    epoch_order,
    image_dataset,
    make_loader,
    per_device_batch_size,
)
from mining.training.feature_table import (
    FeatureTable,
    RowFormat,
    TableDataset,
    TablePlan,
    complete_parts,
    open_table,
    plans_that_fit,
)
from mining.training.frozen_features import FeatureExtractor
from mining.training.labelled_images import LabelledImages
from mining.training.loader_memory import workers_that_fit

FeatureProgress = Callable[[int, int], None]


class TrainingData(lightning.LightningDataModule):
    """The training and validation images of a training.

    With a frozen backbone, a localizer that `trains_on_features` gets those of its backbone instead of pixels. They are
    computed before the first epoch and kept in files, if there is room for them and the epochs use numbered views;
    otherwise when they are needed.

    Args:
        settings: The settings.
        localizer: The localizer; not changed.
        input_size: Side of the network's input, px.
        training: Images to train on.
        validation: Images held back for validation; None for no validation.
        progress: Called with the number of images whose features are computed, and of all.

    Attributes:
        notes: Sentences about the execution, for the training record.
    """

    def __init__(
        self,
        settings: TrainSettings,
        localizer: Localizer,
        input_size: int,
        training: LabelledImages,
        validation: LabelledImages | None,
        *,
        progress: FeatureProgress = lambda done, total: None,
    ) -> None:
        super().__init__()
        self.settings = settings
        self.localizer = localizer
        self.input_size = input_size
        self.images = {"training": training, **({} if validation is None else {"validation": validation})}
        self.progress = progress
        self.notes: list[str] = []
        self._extractor: FeatureExtractor | None = None
        self._tables: dict[str, FeatureTable] = {}
        self._workers = 0

    def setup(self, stage: str) -> None:
        """Compute the features, and choose the number of loader processes."""
        if self.localizer.frozen and self.localizer.trains_on_features:
            self._tables = self._compute_features()
        loaders = len(self.images) - len(self._tables)
        if loaders:
            self._workers, self.notes = self._workers_that_fit(loaders)

    def train_dataloader(self) -> DataLoader[Any]:
        """Return the loader of the training images, shuffled and augmented."""
        several = len(self.images["training"]) > self.settings.batch_size
        return self._loader("training", drop_last=several and not self.settings.freeze)

    def val_dataloader(self) -> DataLoader[Any] | list[Any]:
        """Return the loader of the validation images; an empty list without any."""
        return self._loader("validation") if "validation" in self.images else []

    def on_after_batch_transfer(self, batch: Batch, _: int) -> Batch:
        """Compute the features of a batch that has pixels, if the training starts from features."""
        if self._extractor is None or batch.features or not len(batch):
            return batch
        features = self._extractor.of_batch(batch.pixels)
        return Batch(batch.pixels[:0], batch.targets, batch.unreadable, batch.indices, features)

    def _loader(self, name: str, *, drop_last: bool = False) -> DataLoader[Any]:
        images, trainer = self.images[name], self._trainer()
        is_table = name in self._tables
        return make_loader(
            self.settings,
            TableDataset(self._tables[name], images) if is_table else self._dataset(name),
            epoch_order(self.settings, images, augment=name == "training"),
            rank=trainer.global_rank,
            world_size=trainer.world_size,
            workers=0 if is_table else self._workers,
            collate=_as_it_is if is_table else collate,
            drop_last=drop_last,
        )

    def _dataset(self, name: str) -> ImageDataset:
        return image_dataset(self.settings, self.images[name], self.input_size, augment=name == "training")

    def _trainer(self) -> lightning.Trainer:
        assert self.trainer is not None
        return self.trainer

    def _workers_that_fit(self, loaders: int) -> tuple[int, list[str]]:
        """Return the worker processes per loader, and a note where shared memory allows fewer than asked for."""
        wanted = min(MAX_THREADS, available_cores()) if self.settings.workers is None else self.settings.workers
        world_size = self._trainer().world_size
        targets = self.images["training"].targets.shape[1]
        image_bytes = 3 * self.input_size**2 + 4 * targets
        batch_bytes = per_device_batch_size(self.settings.batch_size, world_size) * image_bytes
        return workers_that_fit(wanted, batch_bytes, loaders=loaders, processes=world_size)

    # --- features ----------------------------------------------------------------------------------------------------

    def _compute_features(self) -> dict[str, FeatureTable]:
        """Prepare the runtime, and complete the tables that the epochs read from."""
        trainer = self._trainer()
        self._extractor = FeatureExtractor(self.localizer, self.settings, trainer.strategy.root_device, self.threads)
        black = torch.zeros(1, 3, self.input_size, self.input_size, dtype=torch.uint8)
        row = RowFormat.of(self._extractor.of_batch(black))
        if row.has_vectors_only:
            torch.set_num_threads(1)  # a layer on vectors is so small that threads wait longer than they compute
        plans = self._plans(self._extractor, row)
        total, done = sum(plan.images for plan in plans.values()), 0

        def advance(count: int) -> None:
            nonlocal done
            done += count * trainer.world_size
            self.progress(min(total, done), total)

        for name, plan in plans.items():
            compute = partial(self._extractor.of_views, partial(self._dataset, name), views=range(plan.views))
            complete_parts(plan, compute, rank=trainer.global_rank, world_size=trainer.world_size, progress=advance)
        trainer.strategy.barrier()
        if len(plans) == len(self.images):
            self._extractor = None  # its copy of the network is no longer needed
        return {name: open_table(plan) for name, plan in plans.items()}

    def _plans(self, extractor: FeatureExtractor, row: RowFormat) -> dict[str, TablePlan]:
        """Return the tables for which there is room, by the first device's view of the disk."""
        common = [
            self.settings.identity(),
            digest_weights(self.localizer.backbone),
            extractor.compute.describe(),
            package_versions(),
        ]
        views = {"training": min(self.settings.views or 0, self.settings.epochs), "validation": 1}
        folder = self.settings.out / CHECKPOINTS
        plans = {
            name: TablePlan(folder, name, len(images), views[name], row, partial(_inputs, common, images))
            for name, images in self.images.items()
            if views[name]
        }
        fitting = self._trainer().strategy.broadcast(plans_that_fit(plans, folder))
        return {name: plans[name] for name in plans if name in fitting}

    @property
    def threads(self) -> int:
        """Number of threads that decode images and run passes."""
        if self.settings.workers is not None:
            return max(1, self.settings.workers)
        return max(1, min(MAX_THREADS, available_cores() // self._trainer().world_size))


def _as_it_is(batch: Batch) -> Batch:
    return batch


def _inputs(common: list[Any], images: LabelledImages, first: int, last: int) -> list[Any]:
    """Return what decides the features of images, the state of their files included."""
    states = []
    for file in images.files[first:last]:
        with suppress(OSError):
            state = (images.root / file).stat()
            states.append((file, state.st_size, state.st_mtime_ns))
    return [common, states]
