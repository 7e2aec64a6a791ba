"""Read a finished run image by image, in constant memory."""

from collections.abc import Iterable, Iterator
from itertools import compress, groupby
from operator import attrgetter
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mining.corpus.schema import QUARANTINED
from mining.errors import RunError
from mining.models.card import CARD_FILE
from mining.runs.rows import BoxedImage, BoxRow, ImageRow
from mining.runs.run import Run
from mining.storage.integrity import check_file
from mining.storage.parquet import iter_batches

_CORPUS_COLUMNS = ["image_id", "file_name", "width", "height", "split", "content_hash", "state", "labels"]
_BOX_COLUMNS = ["annotation_id", "image_id", "category_id", "category", "source", "score"]
_EDGE_COLUMNS = ["x", "y", "w", "h", "width", "height"]


def open_run(path: Path) -> Run:
    """Open a finished run whose tables are intact and whose images are still there.

    Raises:
        RunError: The run is not finished, or a table or the folder of its images is missing.
        DamagedFileError: A file is not as it was written.
    """
    run = Run.open(path, finished=True)
    for file in (run.corpus, run.annotations, run.model / CARD_FILE):
        if not file.is_file():
            raise RunError(
                f"{path}: the run is recorded as finished, but {file.relative_to(path)} is missing. Mine again into a "
                "new folder."
            )
        check_file(file)
    if not run.image_root.is_dir():
        raise RunError(
            f"{path}: its images were in {run.image_root}, which does not exist any more. Restore the folder (or mount "
            "it) and export again."
        )
    return run


def iter_images(corpus: Path) -> Iterator[ImageRow]:
    """Yield the images of a corpus table that could be read: not quarantined, and of known size."""
    for batch in iter_batches(corpus, _CORPUS_COLUMNS):
        columns = (batch[name].to_pylist() for name in _CORPUS_COLUMNS)
        for number, file_name, width, height, split, digest, state, labels in zip(*columns, strict=True):
            if state != QUARANTINED and width is not None and height is not None:
                known = None if labels is None else tuple(labels)
                yield ImageRow(number, file_name, width, height, split, known == (), digest, known)


def iter_boxes(annotations: Path, min_score: float = 0.0) -> Iterator[BoxRow]:
    """Yield the boxes with a score of at least `min_score`, in the order of the table."""
    for batch in iter_batches(annotations, _BOX_COLUMNS + _EDGE_COLUMNS):
        rows = [batch[name].to_pylist() for name in _BOX_COLUMNS[:-1]]
        rows.append(np.round(_numbers(batch["score"]), 5).tolist())
        yield from compress(map(BoxRow, *rows, *_edges(batch)), is_enough(batch, min_score).tolist())


def boxes_below(annotations: Path, min_score: float) -> int:
    """Count the boxes that score less than `min_score`."""
    return sum(int((~is_enough(batch, min_score)).sum()) for batch in iter_batches(annotations, ["score"]))


def is_enough(batch: pa.RecordBatch, min_score: float) -> NDArray[np.bool_]:
    """Return an (n,) mask of the boxes with a score of at least `min_score`."""
    # as float32, which the column is: 0.7 must keep the box that was stored as 0.7
    return np.from_dlpack(batch["score"]) >= np.float32(min_score)


def _numbers(column: pa.Array) -> NDArray[np.float64]:
    # pyarrow's own to_numpy(), array() and scalar() import pandas
    return np.from_dlpack(column).astype(np.float64)


def _edges(batch: pa.RecordBatch) -> list[list[float]]:
    x, y, w, h, width, height = (_numbers(batch[name]) for name in _EDGE_COLUMNS)
    # edges are rounded rather than sizes: a box that ends at the image's edge still does
    edges = ((x, width), (y, height), (x + w, width), (y + h, height))
    return [np.round(np.clip(edge, 0, limit), 2).tolist() for edge, limit in edges]


def iter_boxed(images: Iterable[ImageRow], boxes: Iterable[BoxRow]) -> Iterator[BoxedImage]:
    """Join images with their boxes; both must be in the order of the corpus.

    Raises:
        RunError: A box belongs to no image, or is out of order.
    """
    groups = groupby(boxes, key=attrgetter("image_id"))
    group = next(groups, None)
    for image in images:
        if group is not None and group[0] == image.image_id:
            yield BoxedImage(image, tuple(group[1]))
            group = next(groups, None)
        else:
            yield BoxedImage(image, ())
    if group is not None:
        raise RunError(
            f"annotations.parquet: the boxes of image {group[0]} have no readable image at their place in "
            "corpus.parquet. The two tables are of different runs; mine again into a new folder."
        )
