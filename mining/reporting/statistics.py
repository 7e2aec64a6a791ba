"""Counts over all boxes and images of a run, in one pass over each table and constant memory."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from mining.arrays import Floats, Ints
from mining.evaluation.metrics.histogram import cell_index, count_per_cell
from mining.storage.parquet import iter_batches

CELLS = 1000  # equal cells of 0-1
CLASS_CELLS = 100  # of the scores of one class
SCORE_STEPS = 20  # of the scores that two runs are compared by
MOST_PER_IMAGE = 5  # images with more boxes are counted together
_COLUMNS = ["image_id", "category", "score", "area", "width", "height", "source"]

Cells = NDArray[np.int64]


def _no_counts() -> Cells:
    return np.zeros(CELLS, np.int64)


@dataclass
class ClassStatistics:
    """Counts over the boxes of one class.

    Attributes:
        boxes: Number of boxes.
        images: Images with such a box.
        listed_images: Those of them whose listing has the class.
        scores: (CLASS_CELLS,) boxes by score.
        squares: Sum over images of the squared number of such boxes.
        products: Sum over images of the number of such boxes times that of all boxes.
    """

    boxes: int = 0
    images: int = 0
    listed_images: int = 0
    scores: Cells = field(default_factory=lambda: np.zeros(CLASS_CELLS, np.int64))
    squares: int = 0
    products: int = 0


@dataclass
class RunStatistics:
    """Counts over all boxes. The sums over images are what the spread of a share of boxes is computed from.

    Attributes:
        boxes: Number of boxes.
        of_class: Counts by class name.
        scores: (CELLS,) boxes by score.
        sizes: (CELLS,) boxes by size, the square root of the share of the image's area.
        images: Images with a box.
        per_image: (MOST_PER_IMAGE + 2,) images by their number of boxes, 0 to more than MOST_PER_IMAGE; images
            without a box are not in the table, so that the first is 0.
        squares: Sum over images of the squared number of boxes.
        below_squares: (SCORE_STEPS,) the same of the boxes that score below the end of each step.
        below_products: (SCORE_STEPS,) sum over images of these times the number of all boxes.
        by_people: Pairs (image_id, class) whose boxes were all made by people; as many as they corrected at most.
    """

    boxes: int = 0
    of_class: dict[str, ClassStatistics] = field(default_factory=dict)
    scores: Cells = field(default_factory=_no_counts)
    sizes: Cells = field(default_factory=_no_counts)
    images: int = 0
    per_image: Cells = field(default_factory=lambda: np.zeros(MOST_PER_IMAGE + 2, np.int64))
    squares: int = 0
    below_squares: Cells = field(default_factory=lambda: np.zeros(SCORE_STEPS, np.int64))
    below_products: Cells = field(default_factory=lambda: np.zeros(SCORE_STEPS, np.int64))
    by_people: set[tuple[int, str]] = field(default_factory=set)

    @property
    def per_class(self) -> Counter[str]:
        """Boxes by class name."""
        return Counter({name: one.boxes for name, one in self.of_class.items()})

    def classes(self) -> list[tuple[str, int]]:
        """Return class names with their number of boxes, most boxes first, then by name."""
        return sorted(self.per_class.items(), key=lambda one: (-one[1], one[0]))

    def add(self, table: pa.Table) -> None:
        """Count the boxes of some whole images, an image's boxes together."""
        score, area, width, height = (column_floats(table, name) for name in ("score", "area", "width", "height"))
        self.boxes += len(table)
        self.scores += count_cells(score)
        self.sizes += count_cells(np.sqrt(area / (width * height)))
        image, ids = _image_of_row(table)
        in_image = np.bincount(image)
        self.images += len(in_image)
        self.per_image += np.bincount(np.minimum(in_image, MOST_PER_IMAGE + 1), minlength=MOST_PER_IMAGE + 2)
        self.squares += int((in_image**2).sum())
        step = np.bincount(image * SCORE_STEPS + cell_index(score, SCORE_STEPS), minlength=len(in_image) * SCORE_STEPS)
        below = step.reshape(-1, SCORE_STEPS).cumsum(axis=1)
        self.below_squares += (below**2).sum(axis=0)
        self.below_products += (below * in_image[:, None]).sum(axis=0)
        self._add_classes(table, image, ids, in_image, score)

    def _add_classes(self, table: pa.Table, image: Ints, ids: Ints, in_image: Ints, score: Floats) -> None:
        encoded = table["category"].combine_chunks().dictionary_encode()
        names, code = encoded.dictionary.to_pylist(), encoded.indices.to_numpy().astype(np.int64)
        pair = image * len(names) + code
        pairs, row_of, count = np.unique(pair, return_inverse=True, return_counts=True)
        of_image, of_class = np.divmod(pairs, len(names))
        source = table["source"]
        is_listed, is_human = (
            np.bincount(row_of, pc.equal(source, value).to_numpy(), len(pairs)) > 0 for value in ("label", "human")
        )
        sums = [
            np.bincount(of_class, weights, len(names)).astype(np.int64)
            for weights in (count, np.ones(len(pairs)), is_listed, count**2, count * in_image[of_image])
        ]
        scores = np.bincount(code * CLASS_CELLS + cell_index(score, CLASS_CELLS), minlength=len(names) * CLASS_CELLS)
        for place, name in enumerate(names):
            counts = self.of_class.setdefault(name, ClassStatistics())
            boxes, images, listed, squares, products = (int(one[place]) for one in sums)
            counts.boxes += boxes
            counts.images += images
            counts.listed_images += listed
            counts.squares += squares
            counts.products += products
            counts.scores += scores[place * CLASS_CELLS : (place + 1) * CLASS_CELLS]
        for place in np.flatnonzero(is_human & ~is_listed).tolist():
            self.by_people.add((int(ids[of_image[place]]), names[of_class[place]]))


def count_boxes(annotations: Path) -> RunStatistics:
    """Count the boxes of annotations.parquet.

    Raises:
        RunError: The table cannot be read.
    """
    statistics = RunStatistics()
    for table in iter_whole_images(annotations, _COLUMNS):
        statistics.add(table)
    return statistics


def iter_whole_images(annotations: Path, columns: Sequence[str]) -> Iterator[pa.Table]:
    """Read boxes in batches that never divide the boxes of an image; `columns` must hold image_id."""
    rest: pa.Table | None = None
    for batch in iter_batches(annotations, columns):
        table = pa.Table.from_batches([batch])
        table = table if rest is None else pa.concat_tables([rest, table])
        ids = table["image_id"].to_numpy()
        others = np.flatnonzero(ids != ids[-1]) if len(ids) else np.empty(0, np.int64)
        end = int(others[-1]) + 1 if len(others) else 0
        rest = table.slice(end)
        if end:
            yield table.slice(0, end)
    if rest is not None and len(rest):
        yield rest


def count_cells(values: Floats) -> Cells:
    """Return (CELLS,) how many values fall into each cell of 0-1; values outside count in the outer cells."""
    return count_per_cell(values, CELLS)


def quantile(cells: Cells, share: float) -> float:
    """Return the value below which `share` of the counts lies, to half a cell; 0 where nothing was counted."""
    total = int(cells.sum())
    if not total:
        return 0.0
    return (int(np.searchsorted(np.cumsum(cells), share * total)) + 0.5) / len(cells)


def column_floats(table: Any, name: str) -> Floats:
    """Return a column of a table or batch as float64."""
    return np.asarray(table[name].to_numpy(), np.float64)


def _image_of_row(table: pa.Table) -> tuple[Ints, Ints]:
    """The place of each row's image among the images of the table, and their ids."""
    ids = table["image_id"].to_numpy()
    is_first = np.append(True, ids[1:] != ids[:-1])
    return np.cumsum(is_first) - 1, ids[is_first]
