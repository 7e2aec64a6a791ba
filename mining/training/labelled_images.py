"""The labelled images of a corpus: files and class targets, and which of them are held back for validation."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from mining.config import Objective, TrainSettings
from mining.corpus import iter_shards, read_summary
from mining.corpus.identical_images import ImageFile, map_copies_to_first
from mining.corpus.images.decoding import read_image, resolve_image_path
from mining.errors import CorpusError, ImageError


@dataclass(frozen=True)
class LabelledImages:
    """Image files with the classes that each shows.

    Attributes:
        root: Folder that the file names are relative to.
        files: n file names.
        targets: (n, C) float32 of 0 and 1.
        classes: C class names, in the order of the targets' columns.
    """

    root: Path
    files: list[str]
    targets: npt.NDArray[np.float32]
    classes: list[str]

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, rows: npt.NDArray[np.intp]) -> "LabelledImages":
        return LabelledImages(self.root, [self.files[i] for i in rows], self.targets[rows], self.classes)


def read_labelled_images(corpus: Path, settings: TrainSettings, objective: Objective) -> LabelledImages:
    """Read the labelled rows of a corpus table; for 'single' only those with exactly one class.

    Args:
        corpus: The corpus table.
        settings: Its `images` are the root of the file names.
        objective: One class per image, or several.

    Raises:
        CorpusError: No image is labelled, or a 'single' classifier would have only one class.
    """
    files: list[str] = []
    labels: list[list[str]] = []
    for table in iter_shards(corpus):
        for row in table.select(["file_name", "labels", "bytes"]).to_pylist():
            is_usable = row["labels"] is not None and (objective == "multi" or len(row["labels"]) == 1)
            if is_usable and row["bytes"] is not None:
                files.append(row["file_name"])
                labels.append(row["labels"])
    classes = sorted({name for names in labels for name in names})
    if not classes:
        remedy = (
            f"No labelled image under {settings.images}: training needs class names. Give --labels (CSV, COCO JSON, "
            "VOC XML), or put the images into one folder per class."
        )
        raise CorpusError(" ".join([remedy, *read_summary(corpus).notes]))
    if len(classes) < 2 and objective == "single":
        raise CorpusError(
            f"All images are labelled {classes[0]!r}: a classifier needs images of a second class, or images without "
            "the first one (an empty `labels` cell)."
        )
    # filled in place: ILSVRC has 1.3 billion cells
    column_of = {name: column for column, name in enumerate(classes)}
    targets = np.zeros((len(labels), len(classes)), np.float32)
    for row, names in enumerate(labels):
        targets[row, [column_of[name] for name in names]] = 1
    return LabelledImages(settings.images, files, targets, classes)


def copies_of(images: LabelledImages) -> dict[str, str]:
    """Find photos that are listed under several names.

    Returns:
        File name to the first name of the same photo, for such photos only.
    """

    def files() -> Iterator[ImageFile]:
        return (ImageFile(name, images.root / name) for name in images.files)

    return map_copies_to_first(files)


def train_val_split(
    images: LabelledImages, share: float, seed: int, copies: Mapping[str, str] | None = None
) -> tuple[LabelledImages, LabelledImages]:
    """Hold back about `share` of the images for validation, at random.

    No class loses its last training image, nor the last image without it. Copies of a photo stay together, because a
    metric on photos that were trained on means nothing.

    Args:
        images: All labelled images.
        share: Share to hold back, 0-1.
        seed: Seed of the draw.
        copies: See `copies_of`.

    Returns:
        Training images and validation images; the latter may be empty.
    """
    present = images.targets.sum(axis=0)
    absent = len(images) - present
    wanted = round(share * len(images))
    rows_of_photo = _rows_of_copied_photos(images, copies or {})
    held_back: list[int] = []
    for row in np.random.default_rng(seed).permutation(len(images)) if wanted else ():
        photo = (copies or {}).get(images.files[row])
        rows = [int(row)] if photo is None else rows_of_photo.pop(photo, [])  # none: another copy came before
        if not rows or len(held_back) + len(rows) > wanted:
            continue
        taken = images.targets[rows].sum(axis=0)
        shown, missing = taken > 0, taken < len(rows)
        if (present[shown] > taken[shown]).all() and ((absent - len(rows) + taken)[missing] > 0).all():
            held_back += rows
            present -= taken
            absent -= len(rows) - taken
    if not held_back:
        return images, images[np.array([], dtype=np.intp)]  # not a copy: the targets of a large corpus are gigabytes
    kept = np.setdiff1d(np.arange(len(images)), held_back)
    return images[kept], images[np.array(sorted(held_back), dtype=np.intp)]


def _rows_of_copied_photos(images: LabelledImages, copies: Mapping[str, str]) -> dict[str, list[int]]:
    rows: dict[str, list[int]] = {}
    for row, name in enumerate(images.files) if copies else ():
        if name in copies:
            rows.setdefault(copies[name], []).append(row)
    return rows


def unreadable_if_all(images: LabelledImages) -> dict[str, str]:
    """Return why each image cannot be read; empty as soon as one of them can be read."""
    reasons = {}
    for file in images.files:
        try:
            read_image(resolve_image_path(images.root, file))
        except ImageError as error:
            reasons[file] = str(error)
        else:
            return {}
    return reasons


def class_weights(targets: npt.NDArray[np.float32], objective: Objective) -> Tensor:
    """Weight rare classes up by the square root of their rarity, at most tenfold.

    Args:
        targets: (n, C) of 0 and 1.
        objective: 'single': weights whose mean over the images is 1. 'multi': weights of a class's positives,
            sqrt(negatives / positives), at least 1.

    Returns:
        (C,) float32.
    """
    positives = np.maximum(targets.sum(axis=0), 1.0)
    if objective == "multi":
        return torch.from_numpy(np.sqrt((len(targets) - positives) / positives).clip(1.0, 10.0).astype(np.float32))
    weights = 1.0 / np.sqrt(positives)
    weights = (weights / weights.min()).clip(1.0, 10.0)
    return torch.from_numpy((weights * positives.sum() / (weights * positives).sum()).astype(np.float32))
