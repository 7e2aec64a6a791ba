"""What an audit reads of a run: its boxes as arrays, single boxes, and what its image files are now."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mining.arrays import Floats, Ints
from mining.runs.run import Run
from mining.storage.files import sha256_of


def box_columns(table: pa.Table) -> tuple[Ints, Ints, Floats]:
    """Return the annotation_id, category_id and score of each box."""
    ids, category, score = (table[name].to_numpy() for name in ("annotation_id", "category_id", "score"))
    return ids.astype(np.int64), category.astype(np.int64), score.astype(np.float64)


def boxes_by_id(table: pa.Table, ids: Iterable[int]) -> dict[int, Mapping[str, Any]]:
    """Return rows of annotations.parquet by annotation_id."""
    some = table.filter(pc.is_in(table["annotation_id"], value_set=pa.array(list(ids), pa.int64())))
    return {row["annotation_id"]: row for row in some.to_pylist()}


def hashes_now(run: Run, names: Iterable[str]) -> dict[str, str | None]:
    """SHA-256 of each image's file, empty for one that is not the run's any more.

    Of a missing file that which the run recorded, None if it has none.
    """
    corpus = run.read_corpus(["file_name", "bytes", "content_hash"])
    some = corpus.filter(pc.is_in(corpus["file_name"], value_set=pa.array(sorted(names), pa.string())))
    found: dict[str, str | None] = {}
    for row in some.to_pylist():
        path = run.image_root / row["file_name"]
        digest = sha256_of(path) if path.is_file() else None
        was = row["content_hash"]
        is_another = digest is not None and (
            digest != was if was is not None else row["bytes"] not in (None, path.stat().st_size)
        )
        found[row["file_name"]] = "" if is_another else digest or was
    return found


def is_another_image(judged: str | None, now: str | None) -> bool:
    """Return whether an image's file is another one than when a verdict was given.

    Args:
        judged: SHA-256 of the file then, None if there was none.
        now: What `hashes_now` returns for it.
    """
    return now is not None and (now == "" or judged not in (None, now))
