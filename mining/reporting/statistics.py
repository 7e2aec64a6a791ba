"""All boxes of a run counted in one pass, in constant memory."""

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc
from numpy.typing import NDArray

from mining.storage.parquet import iter_batches

FINE = 1000  # cells of the counts kept, over 0-1

Cells = NDArray[np.int64]


def _no_cells() -> Cells:
    return np.zeros(FINE, np.int64)


@dataclass
class RunStatistics:
    """Counts over all boxes.

    per_class: boxes by class name. scores, sizes: (FINE,) boxes by score, and by size,
    the square root of the share of the image's area.
    """

    boxes: int = 0
    per_class: Counter[str] = field(default_factory=Counter)
    scores: Cells = field(default_factory=_no_cells)
    sizes: Cells = field(default_factory=_no_cells)

    def classes(self) -> list[tuple[str, int]]:
        """Class names with their number of boxes, most boxes first, then by name."""
        return sorted(self.per_class.items(), key=lambda one: (-one[1], one[0]))


def run_statistics(annotations: Path) -> RunStatistics:
    """Count the boxes of annotations.parquet. Raises RunError when it cannot be read."""
    survey = RunStatistics()
    for batch in iter_batches(annotations, ["category", "score", "area", "width", "height"]):
        score, area, width, height = (_numbers(batch[name]) for name in ("score", "area", "width", "height"))
        survey.boxes += len(batch)
        survey.scores += cells_of(score)
        survey.sizes += cells_of(np.sqrt(area / (width * height)))
        for found in pc.value_counts(batch["category"]).to_pylist():
            survey.per_class[found["values"]] += found["counts"]
    return survey


def cells_of(values: NDArray[np.float64]) -> Cells:
    """(FINE,) how many of the values fall into each cell of 0-1; values outside count at the ends."""
    cell = np.clip((values * FINE).astype(np.int64), 0, FINE - 1)
    return np.bincount(cell, minlength=FINE).astype(np.int64)


def quantile(cells: Cells, share: float) -> float:
    """The value below which `share` of what was counted lies, to half a cell; 0 where nothing was counted."""
    total = int(cells.sum())
    if not total:
        return 0.0
    return (int(np.searchsorted(np.cumsum(cells), share * total)) + 0.5) / FINE


def _numbers(column: Any) -> NDArray[np.float64]:
    return np.from_dlpack(column).astype(np.float64)
