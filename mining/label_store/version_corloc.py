"""CorLoc of the next version, on the images that have ground truth."""

import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from mining.errors import ScoringError
from mining.evaluation.run_scoring import best_iou_of_pairs
from mining.label_store.run_view import write_view

IOU_THRESHOLD = 0.5
Rows = Iterable[pa.RecordBatch]


def corloc_and_drop(
    before: Rows, after: Rows, record: Mapping[str, Any], truth: Path, folder: Path
) -> tuple[float | None, float | None]:
    """Return CorLoc of the next version, and by how much it is lower than in the last one.

    CorLoc counts pairs of an image and a class. The drop is of the pairs in both versions, because new images do not
    say whether the older ones got worse.

    Args:
        before: Rows of the last version, of one corpus, sorted by image.
        after: Rows of the next version, likewise.
        record: Record of the corpus.
        truth: Ground truth.
        folder: Folder to work in; it is deleted.

    Returns:
        Both in [0, 1]; None if there is no such pair.
    """
    hits_before, hits_after = (_hits(rows, record, truth, folder) for rows in (before, after))
    both = hits_before.keys() & hits_after.keys()
    corloc = float(np.mean([*hits_after.values()])) if hits_after else None
    drop = float(np.mean([hits_before[pair] - hits_after[pair] for pair in both])) if both else None
    return corloc, drop


def _hits(rows: Rows, record: Mapping[str, Any], truth: Path, folder: Path) -> dict[tuple[str, str], float]:
    try:
        run = write_view(folder, rows, "version", record)
        return {
            (name, category): float(iou >= IOU_THRESHOLD) for name, category, iou in best_iou_of_pairs(run.path, truth)
        }
    except ScoringError:  # none of these images has ground truth; the file itself was checked before
        return {}
    finally:
        shutil.rmtree(folder, ignore_errors=True)
