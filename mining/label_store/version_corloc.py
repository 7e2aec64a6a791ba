"""CorLoc of a version to come, where some boxes are known."""

import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from mining.errors import ScoringError
from mining.evaluation.run_scoring import best_iou_of_pairs
from mining.label_store.run_view import write_view

_HIT = 0.5
Rows = Iterable[pa.RecordBatch]


def corloc_and_drop(
    before: Rows, after: Rows, record: Mapping[str, Any], truth: Path, folder: Path
) -> tuple[float | None, float | None]:
    """CorLoc of the rows `after`, 0-1, and how far it lies below that of `before` on the pairs that both have.

    Pairs are of an image and a class, as CorLoc counts them: photos that are new tell nothing of whether older ones
    got worse. None where there is no such pair. before, after: a corpus' rows, sorted by image. record: what the
    version says of the corpus. folder: to work in; it goes.
    """
    hits = [_hits(rows, record, truth, folder) for rows in (before, after)]
    both = hits[0].keys() & hits[1].keys()
    value = float(np.mean([*hits[1].values()])) if hits[1] else None
    drop = float(np.mean([hits[0][pair] - hits[1][pair] for pair in both])) if both else None
    return value, drop


def _hits(rows: Rows, record: Mapping[str, Any], truth: Path, folder: Path) -> dict[tuple[str, str], float]:
    try:
        run = write_view(folder, rows, "version", record)
        return {(name, of): float(iou >= _HIT) for name, of, iou in best_iou_of_pairs(run.path, truth)}
    except ScoringError:  # the truth was read before: it knows none of these images
        return {}
    finally:
        shutil.rmtree(folder, ignore_errors=True)
