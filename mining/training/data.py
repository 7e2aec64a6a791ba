"""Feed labelled images to a training: order, augmentation, batches, and the share of each device."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from multiprocessing import Lock
from typing import Any

import torch
from lightning.fabric.utilities.distributed import DistributedSamplerWrapper
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler, SequentialSampler

from mining.config import TrainSettings
from mining.corpus.images.decoding import decode_image, full_size, network_input_size, resize_image, resolve_image_path
from mining.corpus.images.memory_budget import share_across_processes
from mining.errors import ImageError
from mining.training.labelled_images import LabelledImages

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
import albumentations as A


@dataclass(frozen=True)
class AugmentationConfig:
    """How training images are varied.

    Attributes:
        crop_from: Side in px of the square that crops are taken from; None crops 80-100 % of the area.
        flip: Random horizontal flip (p = 0.5).
        colour: Random brightness, contrast, saturation and hue (p = 0.5).
    """

    crop_from: int | None = None
    flip: bool = True
    colour: bool = True


def augmentation(size: int, config: AugmentationConfig) -> A.Compose:
    """Build the augmentation: random crop to `size` px, flip, colour.

    Reference:
        The crop of area 0.8-1 and aspect ratio 0.75-1.33 is that of mLDFR, section IV-B.
    """
    crop = (
        A.RandomResizedCrop(size=(size, size), scale=(0.8, 1.0), ratio=(0.75, 1.33))
        if config.crop_from is None
        else A.RandomCrop(size, size)
    )
    flip = [A.HorizontalFlip(p=0.5)] if config.flip else []
    colour = [A.ColorJitter(brightness=0.2, contrast=0.2, saturation=0.2, hue=0.02, p=0.5)] if config.colour else []
    return A.Compose([crop, *flip, *colour])


class ShuffledSampler(Sampler[tuple[int, int]]):
    """Indices of `count` images in random order, each with the seed of its augmentation.

    Both are drawn in the main process and from torch's seed alone, so that an epoch depends neither on the workers nor
    on what was drawn before.
    """

    def __init__(self, count: int) -> None:
        self.count = count

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[tuple[int, int]]:
        generator = torch.Generator().manual_seed(torch.initial_seed())
        order, seeds = (
            torch.randperm(self.count, generator=generator),
            torch.randint(2**31, (self.count,), generator=generator),
        )
        return zip(order.tolist(), seeds.tolist(), strict=True)


def device_share(order: Sampler[Any], rank: int, world_size: int) -> Sampler[Any]:
    """Give one device its share of an epoch: every `world_size`-th item of the order, from the `rank`-th on.

    All shares have the same length, because the devices step together; the order is repeated from its start where the
    items do not divide. So the batches of all devices, put together, are those that one device would have.

    Lightning would put the same wrapper around the sampler by itself, but with an order of its own (shuffle=True).
    """
    return DistributedSamplerWrapper(order, num_replicas=world_size, rank=rank, shuffle=False)


class ImageDataset(Dataset[dict[str, Any]]):
    """Images as (3, size, size) uint8: augmented for training, squeezed to a square for validation.

    An image that cannot be read is an item with a reason and no pixels, which `collate` leaves out.

    Args:
        images: Files and targets.
        size: Side of the network's input, px.
        augment: Whether to augment.
        config: The augmentation; its crop_from must be at least `size`.
    """

    def __init__(
        self, images: LabelledImages, size: int, *, augment: bool, config: AugmentationConfig = AugmentationConfig()
    ) -> None:
        self.images = images
        self.size = size
        self.crop_from = config.crop_from
        self.augment = augmentation(size, config) if augment else None

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, key: int | tuple[int, int]) -> dict[str, Any]:
        index, seed = key if isinstance(key, tuple) else (key, 0)
        try:
            with decode_image(resolve_image_path(self.images.root, self.images.files[index]), full_size) as (
                decoded,
                _,
            ):
                pixels = self._to_input(decoded, seed)
        except ImageError as error:
            return {"file": self.images.files[index], "reason": str(error)}
        return {"pixels": pixels, "target": torch.from_numpy(self.images.targets[index]), "index": index}

    def _to_input(self, pixels: Tensor, seed: int) -> Tensor:
        if self.augment is None:
            return resize_image(pixels, (self.size, self.size))
        pixels = self._resize_for_crop(pixels)
        self.augment.set_random_seed(seed)
        augmented = self.augment(image=pixels.permute(1, 2, 0).numpy())["image"]
        return torch.from_numpy(augmented).permute(2, 0, 1).contiguous()

    def _resize_for_crop(self, pixels: Tensor) -> Tensor:
        if self.crop_from is not None:
            return resize_image(pixels, (self.crop_from, self.crop_from))
        height, width = pixels.shape[1:]
        reduced = network_input_size(height, width, short_side=round(1.25 * self.size))
        # reduced first, because cropping a large photo costs more
        return resize_image(pixels, reduced) if reduced[0] < height else pixels


@dataclass
class Batch:
    """A batch of images.

    Attributes:
        pixels: (B, 3, H, W) uint8.
        targets: (B, C) float32 of 0 and 1.
        unreadable: File name to reason, of images that were left out.
        indices: Index of each of the B images in the dataset.
    """

    pixels: Tensor
    targets: Tensor
    unreadable: dict[str, str]
    indices: list[int]

    def pin_memory(self) -> "Batch":
        """Pin the tensors, for the loader's asynchronous copies to a GPU."""
        return Batch(self.pixels.pin_memory(), self.targets.pin_memory(), self.unreadable, self.indices)


def collate(items: Sequence[dict[str, Any]]) -> Batch:
    """Combine items into a batch, which is empty where none of them could be read."""
    readable = [item for item in items if "pixels" in item]
    unreadable = {item["file"]: item["reason"] for item in items if "reason" in item}
    if not readable:
        return Batch(torch.zeros(0, 3, 1, 1, dtype=torch.uint8), torch.zeros(0, 0), unreadable, [])
    pixels, targets = (torch.stack([item[name] for item in readable]) for name in ("pixels", "target"))
    return Batch(pixels, targets, unreadable, [item["index"] for item in readable])


def per_device_batch_size(settings: TrainSettings, world_size: int) -> int:
    """Images per step of each device."""
    return -(-settings.batch_size // world_size)


def make_loader(
    settings: TrainSettings,
    images: LabelledImages,
    size: int,
    *,
    rank: int,
    world_size: int,
    workers: int,
    augment: bool,
) -> DataLoader[Any]:
    """Make the loader of one device.

    Args:
        settings: Batch size and augmentation.
        images: All images of the epoch, those of the other devices included.
        size: Side of the network's input, px.
        rank: Number of this device, from 0.
        world_size: Number of devices.
        workers: Processes that decode and augment; 0 does it in this process.
        augment: True for training: shuffled and augmented. False for validation: in order, squeezed to squares.
    """
    order: Sampler[Any] = ShuffledSampler(len(images)) if augment else SequentialSampler(images)
    config = AugmentationConfig(settings.crop_from, settings.flip, settings.colour)
    return DataLoader(
        ImageDataset(images, size, augment=augment, config=config),
        batch_size=per_device_batch_size(settings, world_size),
        sampler=device_share(order, rank, world_size),
        num_workers=workers,
        collate_fn=collate,
        pin_memory=torch.cuda.is_available(),
        persistent_workers=workers > 0,
        worker_init_fn=partial(share_across_processes, Lock()) if workers else None,
        drop_last=augment and len(images) > settings.batch_size and not settings.freeze,
    )
