"""Feed images with boxes to the training of a detector."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from multiprocessing import Lock
from typing import Any

import lightning
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from mining.config import DetectorSettings
from mining.config.execution import available_cores
from mining.corpus.images.decoding import decode_image
from mining.corpus.images.memory_budget import share_across_processes
from mining.detection.augmentation import BoxAugmentation, View
from mining.detection.boxed_images import BoxedImage
from mining.detection.boxes import DetectionTarget
from mining.errors import ImageError
from mining.runtimes.worker_threads import MAX_THREADS
from mining.training.data import ShuffledSampler, device_share, per_device_batch_size
from mining.training.loader_memory import workers_that_fit

_LARGEST_CROP_FACTOR = 2  # a crop of half the sides is still as large as the network's input


@dataclass(frozen=True)
class DetectionBatch:
    """A batch of images.

    Attributes:
        images: (3, h, w) uint8 each.
        targets: What each image shows.
        unreadable: Path to reason, of images that were left out.
    """

    images: list[Tensor]
    targets: list[DetectionTarget]
    unreadable: dict[str, str]

    def to(self, device: torch.device) -> "DetectionBatch":
        """Move the tensors to a device."""
        images = [image.to(device, non_blocking=device.type == "cuda") for image in self.images]
        return DetectionBatch(images, [target.to(device) for target in self.targets], self.unreadable)

    def pin_memory(self) -> "DetectionBatch":
        """Pin the images, for the loader's asynchronous copies to a GPU."""
        return DetectionBatch([image.pin_memory() for image in self.images], self.targets, self.unreadable)


class BoxedDataset(Dataset[View | tuple[str, str]]):
    """Augmented views of images; an image that cannot be read is its path and the reason."""

    def __init__(self, images: Sequence[BoxedImage], settings: DetectorSettings) -> None:
        self.images = images
        self.side = settings.side
        self.augment = BoxAugmentation(settings)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, key: tuple[int, int]) -> View | tuple[str, str]:
        index, seed = key
        image = self.images[index]
        try:
            with decode_image(image.path, self._needed, image.content_hash) as (pixels, (height, width)):
                factors = np.array([pixels.shape[2] / width, pixels.shape[1] / height] * 2)
                boxes, ignored = (np.asarray(values) * factors for values in (image.boxes, image.ignored))
                return self.augment(pixels, boxes, image.classes, image.weights, ignored, seed)
        except ImageError as error:
            return str(image.path), str(error)

    def _needed(self, height: int, width: int) -> tuple[int, int]:
        factor = min(1.0, _LARGEST_CROP_FACTOR * self.side / max(height, width))
        return max(1, round(height * factor)), max(1, round(width * factor))


def collate(items: Sequence[View | tuple[str, str]]) -> DetectionBatch:
    """Combine items into a batch, which is empty where none of them could be read."""
    views = [item for item in items if isinstance(item, View)]
    unreadable = dict(item for item in items if not isinstance(item, View))
    return DetectionBatch([view.pixels for view in views], [view.target for view in views], unreadable)


class WholeBatches(ShuffledSampler):
    """The images of an epoch in random order, without those that would not fill a batch.

    Args:
        count: Number of images.
        batch_size: Images per step, over all devices. Fewer images than that are one batch.
    """

    def __init__(self, count: int, batch_size: int) -> None:
        super().__init__(count)
        self.used = count - count % batch_size if count > batch_size else count

    def __len__(self) -> int:
        return self.used

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return islice(super().__iter__(), self.used)


class DetectionData(lightning.LightningDataModule):
    """The training images of a detector: of several devices, each has its share of every batch.

    Args:
        images: The images.
        settings: The settings.

    Attributes:
        notes: Sentences about the execution, for the training record.
    """

    def __init__(self, images: Sequence[BoxedImage], settings: DetectorSettings) -> None:
        super().__init__()
        self.images = images
        self.settings = settings
        self.notes: list[str] = []

    def train_dataloader(self) -> DataLoader[Any]:
        """Return the loader of this device's share of the images, shuffled and augmented."""
        assert self.trainer is not None
        settings, devices = self.settings, self.trainer.world_size
        own_batch = per_device_batch_size(settings.batch_size, devices)
        wanted = settings.workers
        if wanted is None:
            wanted = max(1, min(MAX_THREADS, available_cores() // devices))
        batch_bytes = own_batch * 3 * settings.side**2
        workers, self.notes = workers_that_fit(wanted, batch_bytes, loaders=1, processes=devices)
        return DataLoader(
            BoxedDataset(self.images, settings),
            batch_size=own_batch,
            sampler=device_share(
                WholeBatches(len(self.images), own_batch * devices), self.trainer.global_rank, devices
            ),
            num_workers=workers,
            collate_fn=collate,
            pin_memory=torch.cuda.is_available(),
            persistent_workers=workers > 0,
            worker_init_fn=partial(share_across_processes, Lock()) if workers else None,
        )
