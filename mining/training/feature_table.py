"""Features of views of images, in files that are mapped into memory, in the folder of the checkpoints.

A table is written in parts of some hundred images. A part is a `.npy` file, and a record that is written after it:
what the features were computed from, the checksum of the file, and the images that could not be read. A part without
its record, or that does not match it, is computed again. So a killed training loses one part at most, and a damaged
file is never used.
"""

import hashlib
import math
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import Dataset

from mining.errors import StorageError
from mining.storage.files import atomic_write, sha256_of, write_json
from mining.storage.untrusted_files import read_json
from mining.training.data import NO_PIXELS, Batch
from mining.training.frozen_features import ViewFeatures
from mining.training.labelled_images import LabelledImages

PART_BYTES = 2**26
DISK_SHARE = 0.5  # of the free space, at most
MAX_PART_IMAGES = 256

Array = npt.NDArray[Any]
ComputeViews = Callable[[Sequence[int]], Iterator[tuple[int, ViewFeatures]]]


@dataclass(frozen=True)
class RowFormat:
    """How the features of one view are stored: one after the other, in a row.

    Attributes:
        shapes: Shape of each feature.
        dtype: Of all of them.
    """

    shapes: tuple[tuple[int, ...], ...]
    dtype: torch.dtype

    @classmethod
    def of(cls, features: Sequence[Tensor]) -> "RowFormat":
        """Return the format of (B, ...) features."""
        return cls(tuple(tuple(one.shape[1:]) for one in features), features[0].dtype)

    @property
    def length(self) -> int:
        """Number of values."""
        return sum(math.prod(shape) for shape in self.shapes)

    @property
    def bytes(self) -> int:
        """Size of a row."""
        return self.length * self.dtype.itemsize

    @property
    def has_vectors_only(self) -> bool:
        """Whether each feature is one vector."""
        return all(math.prod(shape[1:]) == 1 for shape in self.shapes)

    def join(self, features: Sequence[Tensor]) -> Array:
        """Convert (B, ...) features to (B, length) rows."""
        return torch.cat([one.flatten(1) for one in features], dim=1).numpy()

    def split(self, rows: Array) -> list[Tensor]:
        """Convert (B, length) rows to (B, ...) features."""
        parts = torch.from_numpy(rows).split([math.prod(shape) for shape in self.shapes], dim=1)  # type: ignore[no-untyped-call]
        # in memory that torch aligns: the last bits of a matrix product depend on the alignment
        return [part.clone().reshape(len(rows), *shape) for part, shape in zip(parts, self.shapes, strict=True)]


@dataclass(frozen=True)
class TablePlan:
    """The files of a table.

    Attributes:
        folder: Where they are.
        name: Beginning of their names.
        images: Number of images.
        views: Number of views of each.
        row: Format of the features of a view.
        inputs: What decides the features of a part of the images, by the first and the last + 1 of them; JSON values.
    """

    folder: Path
    name: str
    images: int
    views: int
    row: RowFormat
    inputs: Callable[[int, int], Any]

    @property
    def bytes(self) -> int:
        """Size of all files."""
        return self.images * self.views * self.row.bytes

    @property
    def images_per_part(self) -> int:
        """Number of images in each part but the last."""
        return min(MAX_PART_IMAGES, max(1, PART_BYTES // (self.views * self.row.bytes)))

    @property
    def parts(self) -> list[range]:
        """The images of each part."""
        count = self.images_per_part
        return [range(first, min(first + count, self.images)) for first in range(0, self.images, count)]

    def files(self, number: int) -> tuple[Path, Path]:
        """Return the paths of a part and of its record."""
        stem = f"features-{self.name}-{number:05d}"
        return self.folder / f"{stem}.npy", self.folder / f"{stem}.json"

    @property
    def missing_bytes(self) -> int:
        """Size of the files that are not there yet."""
        files = (self.files(number)[0] for number in range(len(self.parts)))
        return max(0, self.bytes - sum(path.stat().st_size for path in files if path.is_file()))


def plans_that_fit(plans: Mapping[str, TablePlan], folder: Path) -> list[str]:
    """Return the names of those plans, the smallest first, that together leave a share of the disk free."""
    folder.mkdir(parents=True, exist_ok=True)
    room = DISK_SHARE * shutil.disk_usage(folder).free
    fitting = []
    for name, plan in sorted(plans.items(), key=lambda item: item[1].bytes):
        if plan.missing_bytes <= room:
            fitting.append(name)
            room -= plan.missing_bytes
    return fitting


class FeatureTable:
    """The features of each view of images.

    Attributes:
        unreadable: Reason by index, of the images that have none.
    """

    def __init__(self, plan: TablePlan, parts: Sequence[tuple[Array, Mapping[int, str]]]) -> None:
        self._plan = plan
        self._arrays = [array for array, _ in parts]
        self.unreadable = {index: reason for _, reasons in parts for index, reason in reasons.items()}

    def features(self, keys: Sequence[tuple[int, int]]) -> list[Tensor]:
        """Return the (B, ...) features of B pairs of index and view."""
        count = self._plan.images_per_part
        return self._plan.row.split(np.stack([self._arrays[i // count][i % count, view] for i, view in keys]))


def complete_parts(
    plan: TablePlan, compute: ComputeViews, *, rank: int, world_size: int, progress: Callable[[int], None]
) -> None:
    """Compute the parts that are not there yet; each device has its share of them.

    Args:
        plan: The files.
        compute: Yields the features of all views for some images.
        rank: Number of this device, from 0.
        world_size: Number of devices.
        progress: Called with the number of images that were done since the last call.
    """
    for number in range(rank, len(plan.parts), world_size):
        images = plan.parts[number]
        if read_part(plan, number) is not None:
            progress(len(images))
            continue
        array = np.zeros((len(images), plan.views, plan.row.length), _numpy_dtype(plan.row.dtype))
        unreadable: dict[int, str] = {}
        for index, features in compute(images):
            if isinstance(features, str):
                unreadable[index] = features
            else:
                array[index - images.start] = plan.row.join(features)
            progress(1)
        _write_part(plan, number, array, unreadable)


def open_table(plan: TablePlan) -> FeatureTable:
    """Map the files of a completed table.

    Raises:
        StorageError: A file is missing or damaged.
    """
    parts = [read_part(plan, number) for number in range(len(plan.parts))]
    whole = [part for part in parts if part is not None]
    if len(whole) < len(parts):
        raise StorageError(
            f"{plan.files(parts.index(None))[0]} was changed or deleted during the training. Run the same command "
            "again to resume."
        )
    return FeatureTable(plan, whole)


def read_part(plan: TablePlan, number: int) -> tuple[Array, dict[int, str]] | None:
    """Map a part into memory, after checking it; None if it is missing, damaged or from other inputs."""
    path, record_path = plan.files(number)
    images = plan.parts[number]
    try:
        record = read_json(record_path)
        if record["inputs"] != _digest(plan, images) or record["sha256"] != sha256_of(path):
            return None
        array = np.load(path, mmap_mode="r", allow_pickle=False)
        if array.shape != (len(images), plan.views, plan.row.length):
            return None
        return array, {int(index): str(reason) for index, reason in record["unreadable"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _write_part(plan: TablePlan, number: int, array: Array, unreadable: Mapping[int, str]) -> None:
    path, record_path = plan.files(number)
    record_path.unlink(missing_ok=True)
    with atomic_write(path) as temporary:
        with temporary.open("wb") as file:
            np.save(file, array, allow_pickle=False)
        digest = sha256_of(temporary)
    reasons = {str(index): reason for index, reason in unreadable.items()}
    write_json(record_path, {"inputs": _digest(plan, plan.parts[number]), "sha256": digest, "unreadable": reasons})


def _digest(plan: TablePlan, images: range) -> str:
    said = [plan.images, plan.views, plan.row, plan.inputs(images.start, images.stop)]
    return hashlib.sha256(repr(said).encode(errors="surrogateescape")).hexdigest()


def _numpy_dtype(dtype: torch.dtype) -> Any:
    return torch.zeros(0, dtype=dtype).numpy().dtype


class TableDataset(Dataset[Batch]):
    """Batches from a table; read as a whole.

    Args:
        table: The table.
        images: Its images.
    """

    def __init__(self, table: FeatureTable, images: LabelledImages) -> None:
        self.table = table
        self.images = images

    def __len__(self) -> int:
        return len(self.images)

    def __getitems__(self, keys: Sequence[int | tuple[int, int]]) -> Batch:
        """Return the batch of some indices, or pairs of index and view; unreadable images are left out."""
        pairs = [key if isinstance(key, tuple) else (key, 0) for key in keys]
        reasons, files = self.table.unreadable, self.images.files
        readable = [pair for pair in pairs if pair[0] not in reasons]
        unreadable = {files[index]: reasons[index] for index, _ in pairs if index in reasons}
        if not readable:
            return Batch(NO_PIXELS, torch.zeros(0, 0), unreadable, [])
        indices = [index for index, _ in readable]
        targets = torch.from_numpy(self.images.targets[indices])
        return Batch(NO_PIXELS, targets, unreadable, indices, self.table.features(readable))
