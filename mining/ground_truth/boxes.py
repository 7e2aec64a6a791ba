"""True boxes of many images as arrays."""

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mining.arrays import Bools, Floats, Ints


@dataclass(frozen=True)
class TruthBoxes:
    """The true boxes of many images, one row per box, m rows.

    Attributes:
        image: (m,) int, 0-based position in the list of images.
        category: (m,) int, 0-based position in the list of classes.
        xywh: (m, 4) float64 pixels, as in COCO.
        area: (m,) float64 px^2, area of the object where the file states it (for COCO's size ranges); else w * h.
        is_ignored: (m,) bool, whether the box is neither to be found nor wrong to find (difficult, ignore, crowd); by
            default none is.
        is_crowd: (m,) bool, COCO's iscrowd; every crowd is ignored too.
    """

    image: Ints
    category: Ints
    xywh: Floats
    area: Floats = field(default_factory=lambda: np.empty(0))
    is_ignored: Bools = field(default_factory=lambda: np.empty(0, bool))
    is_crowd: Bools = field(default_factory=lambda: np.empty(0, bool))

    def __post_init__(self) -> None:
        set_columns(self, image=self.image, category=self.category, xywh=self.xywh)
        n = len(self.image)
        area = np.asarray(self.area, np.float64)
        crowd, ignored = (np.asarray(flags, bool) for flags in (self.is_crowd, self.is_ignored))
        crowd = crowd if crowd.size else np.zeros(n, bool)
        ignored = ignored if ignored.size else np.zeros(n, bool)
        set_fields(self, area=area if area.size else self.xywh[:, 2] * self.xywh[:, 3])
        set_fields(self, is_crowd=crowd, is_ignored=ignored | crowd)
        check_lengths(n, xywh=self.xywh, category=self.category, area=self.area, is_ignored=ignored, is_crowd=crowd)

    @cached_property
    def xyxy(self) -> Floats:
        """(m, 4) corners x0, y0, x1, y1, half-open."""
        return xyxy_from_xywh(self.xywh)

    @property
    def is_countable(self) -> Bools:
        """(m,) whether each box is to be found."""
        return ~self.is_ignored

    def where(self, keep: NDArray[np.bool_]) -> "TruthBoxes":
        """Return the rows for which `keep` (m,) is true."""
        return TruthBoxes(
            image=self.image[keep],
            category=self.category[keep],
            xywh=self.xywh[keep],
            area=self.area[keep],
            is_ignored=self.is_ignored[keep],
            is_crowd=self.is_crowd[keep],
        )

    def __len__(self) -> int:
        return len(self.image)


def xyxy_from_xywh(xywh: Floats) -> Floats:
    """Convert (n, 4) boxes x, y, width, height to corners x0, y0, x1, y1 (half-open)."""
    return np.concatenate([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]], axis=1)


def set_fields(record: object, **columns: NDArray[np.generic]) -> None:
    """Set fields of a frozen record while it is made."""
    for name, values in columns.items():
        object.__setattr__(record, name, values)


def set_columns(record: object, *, image: ArrayLike, category: ArrayLike, xywh: ArrayLike) -> None:
    """Set the fields that true and predicted boxes share, as arrays of their types."""
    set_fields(record, image=np.asarray(image, np.int64), category=np.asarray(category, np.int64))
    set_fields(record, xywh=np.asarray(xywh, np.float64).reshape(-1, 4))


def check_lengths(rows: int, **columns: NDArray[np.generic]) -> None:
    """Raise ValueError if a column has not one row per box."""
    for name, values in columns.items():
        if len(values) != rows:
            raise ValueError(f"{name} has {len(values)} rows, image has {rows}; every column needs one row per box.")
