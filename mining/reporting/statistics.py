"""Counts over all boxes of a run, in one pass and constant memory."""

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc
from numpy.typing import NDArray

from mining.arrays import Floats
from mining.evaluation.metrics.histogram import count_per_cell
from mining.storage.parquet import iter_batches

CELLS = 1000  # equal cells of 0-1

Cells = NDArray[np.int64]


def _no_counts() -> Cells:
    return np.zeros(CELLS, np.int64)


@dataclass
class RunStatistics:
    """Counts over all boxes.

    Attributes:
        boxes: Number of boxes.
        per_class: Boxes by class name.
        scores: (CELLS,) boxes by score.
        sizes: (CELLS,) boxes by size, the square root of the share of the image's area.
    """

    boxes: int = 0
    per_class: Counter[str] = field(default_factory=Counter)
    scores: Cells = field(default_factory=_no_counts)
    sizes: Cells = field(default_factory=_no_counts)

    def classes(self) -> list[tuple[str, int]]:
        """Return class names with their number of boxes, most boxes first, then by name."""
        return sorted(self.per_class.items(), key=lambda one: (-one[1], one[0]))


def count_boxes(annotations: Path) -> RunStatistics:
    """Count the boxes of annotations.parquet.

    Raises:
        RunError: The table cannot be read.
    """
    statistics = RunStatistics()
    for batch in iter_batches(annotations, ["category", "score", "area", "width", "height"]):
        score, area, width, height = (_floats(batch[name]) for name in ("score", "area", "width", "height"))
        statistics.boxes += len(batch)
        statistics.scores += count_cells(score)
        statistics.sizes += count_cells(np.sqrt(area / (width * height)))
        for row in pc.value_counts(batch["category"]).to_pylist():
            statistics.per_class[row["values"]] += row["counts"]
    return statistics


def count_cells(values: Floats) -> Cells:
    """Return (CELLS,) how many values fall into each cell of 0-1; values outside count in the outer cells."""
    return count_per_cell(values, CELLS)


def quantile(cells: Cells, share: float) -> float:
    """Return the value below which `share` of the counts lies, to half a cell; 0 where nothing was counted."""
    total = int(cells.sum())
    if not total:
        return 0.0
    return (int(np.searchsorted(np.cumsum(cells), share * total)) + 0.5) / CELLS


def _floats(column: Any) -> Floats:
    return np.from_dlpack(column).astype(np.float64)
