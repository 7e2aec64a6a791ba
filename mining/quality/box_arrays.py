"""The boxes of a run as arrays."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa

from mining.arrays import Floats, Ints

BOX_COLUMNS = (
    "annotation_id", "image_id", "file_name", "width", "height", "category_id", "category", "x", "y", "w", "h", "score",
    "class_score", "peak", "mean_activation", "threshold", "source", "mean_probability", "cut_agreement",
    "map_agreement", "is_part",
)  # fmt: skip


@dataclass(frozen=True)
class BoxArrays:
    """The n boxes of annotations.parquet, in its order.

    Attributes:
        table: The columns BOX_COLUMNS.
    """

    table: pa.Table

    def __len__(self) -> int:
        return len(self.table)

    @cached_property
    def image_id(self) -> Ints:
        """(n,) int64."""
        return self.table["image_id"].to_numpy()

    @cached_property
    def category_id(self) -> Ints:
        """(n,) int64."""
        return self.table["category_id"].to_numpy().astype(np.int64)

    @cached_property
    def xyxy(self) -> Floats:
        """(n, 4) float64 px of the image, half-open."""
        x, y, w, h = (column_floats(self.table, side) for side in "xywh")
        return np.stack([x, y, x + w, y + h], axis=1)

    @cached_property
    def size(self) -> Floats:
        """(n, 2) float64 width and height of the image in px."""
        return np.stack([column_floats(self.table, side) for side in ("width", "height")], axis=1)

    @cached_property
    def threshold(self) -> Floats:
        """(n,) float64, in 0-1."""
        return column_floats(self.table, "threshold")


def column_floats(table: pa.Table, name: str) -> Floats:
    """Return a numeric or boolean column as (n,) float64; NaN for null."""
    column = table[name]
    if pa.types.is_boolean(column.type):
        column = column.cast(pa.int8())
    return np.array(column.cast(pa.float64()).to_numpy(zero_copy_only=False), np.float64)
