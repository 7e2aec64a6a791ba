"""A finished run with photos and threshold curves, to be reviewed."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mining.config.mine import CURVE_THRESHOLDS
from mining.regions.threshold_curves import ThresholdCurve, curve_row
from mining.runs.run import Run
from mining.runs.schema import CURVE_SCHEMA
from mining.storage.parquet import parquet_writer
from tests.unit.export.conftest import Painted, write_run

SIDE = 60, 40
ELSEWHERE = (1, 27, 12, 12)


def write_review_run(folder: Path, painted: Iterable[Painted], *, elsewhere: bool = False) -> Run:
    """Write a run; each box grows by a px on all sides towards lower thresholds, and shrinks likewise.

    Args:
        folder: Where photos and run are written.
        painted: The photos.
        elsewhere: Whether the lowest thresholds have a box at another place, ELSEWHERE.
    """
    small = write_run(folder, painted)
    corpus = pq.read_table(small.folder / "corpus.parquet")
    sizes = [(small.images / name).stat().st_size for name in corpus["file_name"].to_pylist()]
    place = corpus.schema.get_field_index("bytes")
    corpus = corpus.set_column(place, corpus.schema.field("bytes"), pa.array(sizes))
    pq.write_table(corpus, small.folder / "corpus.parquet")
    rows = []
    for number, image in enumerate(small.painted, start=101):
        for category, x, y, w, h, _ in image.boxes:
            middle = len(CURVE_THRESHOLDS) // 2
            grown = [max(-2, min(2, (middle - step) // 4)) for step in range(len(CURVE_THRESHOLDS))]
            corners = np.array([(x - g, y - g, x + w + g, y + h + g) for g in grown]).clip(0, (*SIDE, *SIDE))
            if elsewhere:
                corners[:3] = (ELSEWHERE[0], ELSEWHERE[1], ELSEWHERE[0] + ELSEWHERE[2], ELSEWHERE[1] + ELSEWHERE[3])
            curve = ThresholdCurve(SIDE, corners, np.ones(len(grown), int), 0.5, 0.5)
            rows.append(curve_row(curve, image_id=number, category_id=category, width=image.width, height=image.height))
    with parquet_writer(small.folder / "curves.parquet", CURVE_SCHEMA) as writer:
        writer.write_table(pa.Table.from_pylist(rows, schema=CURVE_SCHEMA))
    return Run.open(small.folder, finished=True)


def photos(count: int) -> list[Painted]:
    """Images with a box of each class, the first without any."""
    boxes = ((1, 10, 10, 20, 20, 0.9), (3, 36, 8, 20, 24, 0.4))
    return [Painted("00 <b>&amp; nobody.jpg"), *(Painted(f"{number:02}.jpg", boxes) for number in range(1, count))]
