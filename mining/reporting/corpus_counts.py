"""What the corpus table says of a run's images: classes that are listed, and images without a box."""

import heapq
from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mining.corpus.schema import FILTERED, LOW_SCORE, NO_BOX, NO_CLASS, NO_REGION
from mining.storage.parquet import iter_batches

NO_BOX_STATES = (LOW_SCORE, FILTERED, NO_REGION, NO_CLASS, NO_BOX)
_COLUMNS = ["image_id", "file_name", "labels", "state"]
_SPREAD, _RANGE = 2_654_435_761, 2**32  # an order of images that has nothing to do with their names


class UnboxedImage(NamedTuple):
    """An image without a box: its id, name and state, and its classes, None if they are not known."""

    image_id: int
    file_name: str
    state: str
    labels: tuple[str, ...] | None


@dataclass
class CorpusCounts:
    """Counts over the corpus table.

    Attributes:
        listed: Images that list each class, by class name.
        listed_by_people: Those of `by_people` whose image lists the class, by class name.
        unboxed: Some images of each state in NO_BOX_STATES, in an order that has nothing to do with their names.
    """

    listed: Counter[str] = field(default_factory=Counter)
    listed_by_people: Counter[str] = field(default_factory=Counter)
    unboxed: dict[str, list[UnboxedImage]] = field(default_factory=dict)


def count_images(corpus: Path, by_people: Collection[tuple[int, str]], *, most: int) -> CorpusCounts:
    """Read corpus.parquet once, in constant memory.

    Args:
        corpus: The table.
        by_people: Pairs of an image_id and a class.
        most: Images without a box to keep of each state.

    Raises:
        RunError: The table cannot be read.
    """
    counts = CorpusCounts()
    people = pa.array(sorted({image for image, _ in by_people}), pa.int64())
    kept: dict[str, list[tuple[int, int, UnboxedImage]]] = {state: [] for state in NO_BOX_STATES}
    for batch in iter_batches(corpus, _COLUMNS):
        labels = batch["labels"]
        for row in pc.value_counts(pc.list_flatten(labels)).to_pylist():
            counts.listed[row["values"]] += row["counts"]
        if len(people):
            counts.listed_by_people.update(_listed_pairs(batch, people, by_people))
        for state, found in kept.items():
            _keep(found, batch, state, most)
    counts.unboxed = {state: [one for *_, one in sorted(found, reverse=True)] for state, found in kept.items() if found}
    return counts


def _listed_pairs(batch: pa.RecordBatch, images: pa.Array, pairs: Collection[tuple[int, str]]) -> Iterator[str]:
    for row in batch.filter(pc.is_in(batch["image_id"], value_set=images)).to_pylist():
        yield from (name for name in row["labels"] or () if (row["image_id"], name) in pairs)


def _keep(kept: list[tuple[int, int, UnboxedImage]], batch: pa.RecordBatch, state: str, most: int) -> None:
    """Keep the images of a state that come first in the order; the heap has the last of them in front."""
    rows = batch.filter(pc.equal(batch["state"], state))
    ids = rows["image_id"].to_numpy()
    key = -(ids * _SPREAD % _RANGE)
    for place in np.argsort(-key, kind="stable")[:most].tolist():
        labels = rows["labels"][place].as_py()
        names = None if labels is None else tuple(labels)
        image = UnboxedImage(int(ids[place]), rows["file_name"][place].as_py(), state, names)
        entry = (int(key[place]), -image.image_id, image)
        (heapq.heappush if len(kept) < most else heapq.heappushpop)(kept, entry)
