"""Feed labelled images to a training: order, augmentation, batches, and the share of each device."""

import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
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
    """Indices of `count` images in random order, each with the number of its view.

    Both follow from torch's seed alone, which each epoch sets to `seed` plus its number, so that an epoch depends
    neither on the workers nor on what was drawn before.

    Args:
        count: Number of images.
        views: Views of each image, which the epochs use in turn; 0 draws a new one each time.
        seed: The seed of the first epoch.
    """

    def __init__(self, count: int, views: int = 0, seed: int = 0) -> None:
        self.count = count
        self.views = views
        self.seed = seed

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[tuple[int, int]]:
        seed = torch.initial_seed()
        generator = torch.Generator().manual_seed(seed)
        order = torch.randperm(self.count, generator=generator).tolist()
        if self.views:
            return iter([(index, (seed - self.seed) % self.views) for index in order])
        return zip(order, torch.randint(2**31, (self.count,), generator=generator).tolist(), strict=True)


def view_seed(seed: int, file: str, view: int) -> int:
    """Return the seed of an image's augmentation, 31 bits, from the training's seed, the file name and the view."""
    digest = hashlib.sha256(f"{seed} {view} {file}".encode(errors="surrogateescape")).digest()
    return int.from_bytes(digest[:4], "big") >> 1


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
        seed: Seed of the training, from which those of an image's views follow; None if the number of a view is its
            seed.
    """

    def __init__(
        self,
        images: LabelledImages,
        size: int,
        *,
        augment: bool,
        config: AugmentationConfig = AugmentationConfig(),
        seed: int | None = None,
    ) -> None:
        self.images = images
        self.size = size
        self.crop_from = config.crop_from
        self.seed = seed
        self.augment = augmentation(size, config) if augment else None

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, key: int | tuple[int, int]) -> dict[str, Any]:
        index, view = key if isinstance(key, tuple) else (key, 0)
        try:
            (pixels,) = self.views_of(index, [view])
        except ImageError as error:
            return {"file": self.images.files[index], "reason": str(error)}
        return {"pixels": pixels, "target": torch.from_numpy(self.images.targets[index]), "index": index}

    def views_of(self, index: int, views: Sequence[int]) -> list[Tensor]:
        """Decode an image once, and return some of its views.

        Raises:
            ImageError: It cannot be read.
        """
        file = self.images.files[index]
        with decode_image(resolve_image_path(self.images.root, file), full_size) as (decoded, _):
            if self.augment is None:
                return [resize_image(decoded, (self.size, self.size)) for _ in views]
            pixels = self._resize_for_crop(decoded).permute(1, 2, 0).numpy()
            return [self._augmented(self.augment, pixels, file, view) for view in views]

    def _augmented(self, augment: A.Compose, pixels: Any, file: str, view: int) -> Tensor:
        augment.set_random_seed(view if self.seed is None else view_seed(self.seed, file, view))
        return torch.from_numpy(augment(image=pixels)["image"]).permute(2, 0, 1).contiguous()

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
        pixels: (B, 3, H, W) uint8; empty if there are features instead.
        targets: (B, C) float32 of 0 and 1.
        unreadable: File name to reason, of images that were left out.
        indices: Index of each of the B images in the dataset.
        features: What the training starts from, if it does not start from pixels: see `Localizer.condense`.
    """

    pixels: Tensor
    targets: Tensor
    unreadable: dict[str, str]
    indices: list[int]
    features: list[Tensor] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.indices)

    def pin_memory(self) -> "Batch":
        """Pin the tensors, for the loader's asynchronous copies to a GPU."""
        return self._with_tensors(Tensor.pin_memory)

    def to(self, device: torch.device) -> "Batch":
        """Move the tensors to a device; without this method, Lightning copies all that is in the batch."""
        return self._with_tensors(lambda tensor: tensor.to(device, non_blocking=device.type == "cuda"))

    def _with_tensors(self, change: Callable[[Tensor], Tensor]) -> "Batch":
        features = [change(feature) for feature in self.features]
        return Batch(change(self.pixels), change(self.targets), self.unreadable, self.indices, features)


NO_PIXELS = torch.zeros(0, 3, 1, 1, dtype=torch.uint8)


def collate(items: Sequence[dict[str, Any]]) -> Batch:
    """Combine items into a batch, which is empty where none of them could be read."""
    readable = [item for item in items if "pixels" in item]
    unreadable = {item["file"]: item["reason"] for item in items if "reason" in item}
    if not readable:
        return Batch(NO_PIXELS, torch.zeros(0, 0), unreadable, [])
    pixels, targets = (torch.stack([item[name] for item in readable]) for name in ("pixels", "target"))
    return Batch(pixels, targets, unreadable, [item["index"] for item in readable])


def per_device_batch_size(batch_size: int, world_size: int) -> int:
    """Images per step of each device."""
    return -(-batch_size // world_size)


def image_dataset(settings: TrainSettings, images: LabelledImages, size: int, *, augment: bool) -> ImageDataset:
    """Make the dataset of a training: augmented for training, squeezed to squares for validation."""
    config = AugmentationConfig(settings.crop_from, settings.flip, settings.colour)
    seed = settings.seed if settings.views else None
    return ImageDataset(images, size, augment=augment, config=config, seed=seed)


def epoch_order(settings: TrainSettings, images: LabelledImages, *, augment: bool) -> Sampler[Any]:
    """Return the order of an epoch of a training: shuffled, with views; or that of the images for validation."""
    if not augment:
        return SequentialSampler(images)
    return ShuffledSampler(len(images), settings.views or 0, settings.seed)


def make_loader(
    settings: TrainSettings,
    dataset: Dataset[Any],
    order: Sampler[Any],
    *,
    rank: int,
    world_size: int,
    workers: int,
    collate: Callable[[Any], Batch] = collate,
    drop_last: bool = False,
) -> DataLoader[Any]:
    """Make the loader of one device.

    Args:
        settings: The batch size.
        dataset: All images of the epoch, those of the other devices included.
        order: Their order.
        rank: Number of this device, from 0.
        world_size: Number of devices.
        workers: Processes that read items; 0 does it in this process.
        collate: Combines items into a batch.
        drop_last: Whether to leave out a last batch that is smaller.
    """
    return DataLoader(
        dataset,
        batch_size=per_device_batch_size(settings.batch_size, world_size),
        sampler=device_share(order, rank, world_size),
        num_workers=workers,
        collate_fn=collate,
        pin_memory=torch.cuda.is_available(),
        persistent_workers=workers > 0,
        worker_init_fn=partial(share_across_processes, Lock()) if workers else None,
        drop_last=drop_last,
    )
