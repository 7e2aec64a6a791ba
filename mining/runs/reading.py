"""A finished run, read back image by image in constant memory."""

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import compress, groupby
from operator import attrgetter
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mining.corpus.image_root import is_inside
from mining.corpus.schema import QUARANTINED
from mining.errors import RunError
from mining.models.card import read_card
from mining.runs.record import read_run_record
from mining.storage.files import sha256_of
from mining.storage.integrity import check_file
from mining.storage.parquet import iter_batches

_CORPUS_COLUMNS = ["image_id", "file_name", "width", "height", "split", "content_hash", "state", "labels"]
_BOX_COLUMNS = ["annotation_id", "image_id", "category_id", "category", "source", "score"]
_EDGE_COLUMNS = ["x", "y", "w", "h", "width", "height"]


class ImageRow(NamedTuple):
    """One readable image of the corpus; sizes in pixels, EXIF orientation applied.

    content_hash: SHA-256 of the file that the boxes were drawn on, None where it is not known.
    labels: the classes that are known to be in it, None where they are not known.
    """

    image_id: int
    file_name: str
    width: int
    height: int
    split: str | None
    is_known_empty: bool
    content_hash: str | None = None
    labels: tuple[str, ...] | None = None


class BoxRow(NamedTuple):
    """One accepted box; edges in pixels of the oriented image, half-open, inside it, to 1/100 px.

    is_ignored: a true box that is neither to be found nor wrong to find.
    """

    annotation_id: int
    image_id: int
    category_id: int
    category: str
    source: str
    score: float
    x0: float
    y0: float
    x1: float
    y1: float
    is_ignored: bool = False


class BoxedImage(NamedTuple):
    """An image with its boxes, best score first; there may be none."""

    image: ImageRow
    boxes: tuple[BoxRow, ...]


@dataclass(frozen=True)
class FinishedRun:
    """Where a finished run keeps what an export needs."""

    folder: Path
    name: str
    image_root: Path
    classes: tuple[tuple[int, str], ...]

    @property
    def corpus(self) -> Path:
        return self.folder / "corpus.parquet"

    @property
    def annotations(self) -> Path:
        return self.folder / "annotations.parquet"

    def source_of(self, image: ImageRow) -> Path:
        """The image's file.

        Raises RunError for a name that leads out of the image root, and for a file that changed since the run.
        """
        parts = PurePosixPath(image.file_name)
        source = self.image_root / parts
        # the export has the same name below its own folder
        leads_out = parts.is_absolute() or ".." in parts.parts
        if leads_out or not is_inside(os.path.realpath(source), os.path.realpath(self.image_root)):
            raise RunError(
                f"{self.corpus}: {image.file_name!r} leads out of the image root; such a file is not exported."
            )
        _refuse_replaced(source, image.content_hash)
        return source


def _refuse_replaced(source: Path, content_hash: str | None) -> None:
    """Raise RunError where the file is another than the run saw; a file that is gone is for its reader to report."""
    if content_hash is None or not source.is_file():
        return
    try:
        digest = sha256_of(source)
    except OSError:
        return
    if digest != content_hash:
        raise RunError(
            f"{source} changed since the run (its SHA-256 is another), so the run's boxes are not of this picture. "
            "Bring the old file back, or mine again."
        )


def open_run(folder: Path) -> FinishedRun:
    """Check that `folder` is a finished run whose images are still there.

    Raises RunError with the remedy when it is not.
    """
    record = _run_record(folder)
    for part in ("corpus.parquet", "annotations.parquet", "model/model.json"):
        if not (folder / part).is_file():
            raise RunError(
                f"{folder}: the run says it is finished, yet {part} is missing. Mine again into a new folder."
            )
        check_file(folder / part)
    root = Path(str(record.get("config", {}).get("images", "")))
    if not root.is_dir():
        raise RunError(
            f"{folder}: its images were in {root}, which is not there now. Bring the folder back (or mount it) "
            "and export again."
        )
    classes = tuple((int(one["id"]), str(one["name"])) for one in read_card(folder / "model").classes)
    return FinishedRun(folder, str(record.get("name", folder.name)), root, classes)


def _run_record(folder: Path) -> Any:
    record = read_run_record(folder)
    if record.get("state") != "finished":
        raise RunError(
            f"{folder}: the run is not finished (state: {record.get('state')}). "
            "Give its boxmine mine or run command again to resume it, then export."
        )
    return record


def iter_images(corpus: Path) -> Iterator[ImageRow]:
    """All images of a corpus table that were read: not the quarantined, nor those of unknown size."""
    for batch in iter_batches(corpus, _CORPUS_COLUMNS):
        columns = (batch[name].to_pylist() for name in _CORPUS_COLUMNS)
        for number, file_name, width, height, split, digest, state, labels in zip(*columns, strict=True):
            if state != QUARANTINED and width is not None and height is not None:
                known = None if labels is None else tuple(labels)
                yield ImageRow(number, file_name, width, height, split, known == (), digest, known)


def iter_boxes(annotations: Path, min_score: float = 0.0) -> Iterator[BoxRow]:
    """The boxes that score `min_score` or more, in the order of the table."""
    for batch in iter_batches(annotations, _BOX_COLUMNS + _EDGE_COLUMNS):
        rows = [batch[name].to_pylist() for name in _BOX_COLUMNS[:-1]]
        rows.append(np.round(_numbers(batch["score"]), 5).tolist())
        yield from compress(map(BoxRow, *rows, *_edges(batch)), is_enough(batch, min_score).tolist())


def boxes_below(annotations: Path, min_score: float) -> int:
    """How many boxes score less than `min_score`."""
    return sum(int((~is_enough(batch, min_score)).sum()) for batch in iter_batches(annotations, ["score"]))


def is_enough(batch: pa.RecordBatch, min_score: float) -> NDArray[np.bool_]:
    """(n,) which boxes score `min_score` or more."""
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

    Raises RunError when a box belongs to no image, or comes out of order.
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
