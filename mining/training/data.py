"""Labelled images as batches: who is held back, how images are varied, what cannot be read."""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from mining.corpus.identical_images import ImageFile, map_copies_to_first
from mining.corpus.images.decoding import (
    decode_image,
    full_size,
    network_input_size,
    read_image,
    resize_image,
    resolve_image_path,
)
from mining.errors import ImageError

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
import albumentations as A


@dataclass(frozen=True)
class LabelledImages:
    """files: (n,) paths below the root. targets: (n, C) float32 of 0 and 1, in the order of `classes`."""

    root: Path
    files: list[str]
    targets: npt.NDArray[np.float32]
    classes: list[str]

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, rows: npt.NDArray[np.intp]) -> "LabelledImages":
        return LabelledImages(self.root, [self.files[i] for i in rows], self.targets[rows], self.classes)


def copies_of(images: LabelledImages) -> dict[str, str]:
    """File name to the first name of the same photo, for the photos that are there under several names."""

    def files() -> Iterator[ImageFile]:
        return (ImageFile(name, images.root / name) for name in images.files)

    return map_copies_to_first(files)


def train_val_split(
    images: LabelledImages, share: float, seed: int, copies: Mapping[str, str] | None = None
) -> tuple[LabelledImages, LabelledImages]:
    """Split off about `share` of the images for validation, at random.

    No class loses its last training image, nor the last one without it. copies: see `copies_of`; the copies of a photo
    stay together, since a figure on photos that were trained on says nothing.
    """
    present = images.targets.sum(axis=0)
    absent = len(images) - present
    wanted = round(share * len(images))
    rows_of_photo = _rows_of_copied_photos(images, copies or {})
    held: list[int] = []
    for row in np.random.default_rng(seed).permutation(len(images)) if wanted else ():
        photo = (copies or {}).get(images.files[row])
        rows = [int(row)] if photo is None else rows_of_photo.pop(photo, [])  # none: another copy came before
        if not rows or len(held) + len(rows) > wanted:
            continue
        taken = images.targets[rows].sum(axis=0)
        own, other = taken > 0, taken < len(rows)
        if (present[own] > taken[own]).all() and ((absent - len(rows) + taken)[other] > 0).all():
            held += rows
            present -= taken
            absent -= len(rows) - taken
    if not held:
        return images, images[np.array([], dtype=np.intp)]  # not a copy: the targets of a large corpus are gigabytes
    kept = np.setdiff1d(np.arange(len(images)), held)
    return images[kept], images[np.array(sorted(held), dtype=np.intp)]


def _rows_of_copied_photos(images: LabelledImages, copies: Mapping[str, str]) -> dict[str, list[int]]:
    rows: dict[str, list[int]] = {}
    for row, name in enumerate(images.files) if copies else ():
        if name in copies:
            rows.setdefault(copies[name], []).append(row)
    return rows


def reasons_none_is_readable(images: LabelledImages) -> dict[str, str]:
    """File name to reason for all of the images; empty as soon as one of them can be read."""
    reasons = {}
    for file in images.files:
        try:
            read_image(resolve_image_path(images.root, file))
        except ImageError as error:
            reasons[file] = str(error)
        else:
            return {}
    return reasons


def class_weights(targets: npt.NDArray[np.float32], objective: Literal["single", "multi"]) -> Tensor:
    """(C,) loss weights that lift rare classes by the square root of their rarity, at most tenfold.

    single: mean 1 over the images. multi: weight of a class's positives, sqrt(negatives / positives), at least 1.
    """
    positives = np.maximum(targets.sum(axis=0), 1.0)
    if objective == "multi":
        return torch.from_numpy(np.sqrt((len(targets) - positives) / positives).clip(1.0, 10.0).astype(np.float32))
    weights = 1.0 / np.sqrt(positives)
    weights = (weights / weights.min()).clip(1.0, 10.0)
    return torch.from_numpy((weights * positives.sum() / (weights * positives).sum()).astype(np.float32))


@dataclass(frozen=True)
class AugmentationConfig:
    """How training images are varied.

    crop_from: px, side of the square that crops are taken from; None crops 80-100 % of the area.
    flip, colour: whether images are mirrored, and their colours shifted, half of the time.
    """

    crop_from: int | None = None
    flip: bool = True
    colour: bool = True


def augmentation(size: int, variation: AugmentationConfig) -> A.Compose:
    """Random crop to `size` px, flip, colour.

    The crop is one of area 0.8-1 and aspect 0.75-1.33 (mLDFR section IV-B), resized, or one of `size` px as it is.
    """
    crop = (
        A.RandomResizedCrop(size=(size, size), scale=(0.8, 1.0), ratio=(0.75, 1.33))
        if variation.crop_from is None
        else A.RandomCrop(size, size)
    )
    flip = [A.HorizontalFlip(p=0.5)] if variation.flip else []
    colour = [A.ColorJitter(brightness=0.2, contrast=0.2, saturation=0.2, hue=0.02, p=0.5)] if variation.colour else []
    return A.Compose([crop, *flip, *colour])


class Shuffled(Sampler[tuple[int, int]]):
    """Places of `count` images in random order, each with the seed of its augmentation.

    Drawn in the main process and from torch's seed alone, so that an epoch depends neither on the workers nor on what
    was drawn before.
    """

    def __init__(self, count: int) -> None:
        self.count = count

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[tuple[int, int]]:
        draws = torch.Generator().manual_seed(torch.initial_seed())
        order, seeds = (
            torch.randperm(self.count, generator=draws),
            torch.randint(2**31, (self.count,), generator=draws),
        )
        return zip(order.tolist(), seeds.tolist(), strict=True)


class Share(Sampler[Any]):
    """Every `devices`-th of what a sampler draws, from the `device`-th (from 0) on.

    The shares of all devices are of one length, for they go step by step together: what is short is filled from the
    start. So their batches, put together, are those that one device would have.
    """

    def __init__(self, whole: Sampler[Any], device: int, devices: int) -> None:
        self.whole = whole
        self.device = device
        self.devices = devices

    def __len__(self) -> int:
        return -(-len(self.whole) // self.devices)  # type: ignore[arg-type]

    def __iter__(self) -> Iterator[Any]:
        return islice(cycle(self.whole), self.device, len(self) * self.devices, self.devices)


class ImageDataset(Dataset[dict[str, Any]]):
    """Images as (3, size, size) uint8, augmented for training, squeezed to a square for validation.

    variation: of the augmentation; its crop_from must be `size` at least.
    An image that cannot be read is an item with its reason and no pixels: collate leaves it out.
    """

    def __init__(
        self, images: LabelledImages, size: int, *, augment: bool, variation: AugmentationConfig = AugmentationConfig()
    ) -> None:
        self.images = images
        self.size = size
        self.crop_from = variation.crop_from
        self.augment = augmentation(size, variation) if augment else None

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, key: int | tuple[int, int]) -> dict[str, Any]:
        index, seed = key if isinstance(key, tuple) else (key, 0)
        try:
            with decode_image(resolve_image_path(self.images.root, self.images.files[index]), full_size) as (pixels, _):
                varied = self._varied(pixels, seed)
        except ImageError as error:
            return {"file": self.images.files[index], "reason": str(error)}
        return {"pixels": varied, "target": torch.from_numpy(self.images.targets[index]), "place": index}

    def _varied(self, pixels: Tensor, seed: int) -> Tensor:
        if self.augment is None:
            return resize_image(pixels, (self.size, self.size))
        pixels = self._to_crop_from(pixels)
        self.augment.set_random_seed(seed)
        varied = self.augment(image=pixels.permute(1, 2, 0).numpy())["image"]
        return torch.from_numpy(varied).permute(2, 0, 1).contiguous()

    def _to_crop_from(self, pixels: Tensor) -> Tensor:
        if self.crop_from is not None:
            return resize_image(pixels, (self.crop_from, self.crop_from))
        height, width = pixels.shape[1:]
        roomy = network_input_size(height, width, short_side=round(1.25 * self.size))
        # reduced first: cropping a large photo costs more than this
        return resize_image(pixels, roomy) if roomy[0] < height else pixels


@dataclass
class Batch:
    """pixels: (B, 3, H, W) uint8. targets: (B, C) float32. unreadable: file to reason, of images left out.

    places: of the B images among all.
    """

    pixels: Tensor
    targets: Tensor
    unreadable: dict[str, str]
    places: list[int]

    def pin_memory(self) -> "Batch":
        """For the loader's asynchronous copies."""
        return Batch(self.pixels.pin_memory(), self.targets.pin_memory(), self.unreadable, self.places)


def collate(items: Sequence[dict[str, Any]]) -> Batch:
    """Items to a batch, which is empty when none of them could be read."""
    good = [item for item in items if "pixels" in item]
    unreadable = {item["file"]: item["reason"] for item in items if "reason" in item}
    if not good:
        return Batch(torch.zeros(0, 3, 1, 1, dtype=torch.uint8), torch.zeros(0, 0), unreadable, [])
    pixels, targets = (torch.stack([item[name] for item in good]) for name in ("pixels", "target"))
    return Batch(pixels, targets, unreadable, [item["place"] for item in good])
