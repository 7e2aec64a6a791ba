"""A small run directory and its ground truth, written from a few lines."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mining.config.mine import CURVE_THRESHOLDS
from mining.regions.threshold_curves import ThresholdCurve, curve_row
from mining.runs.schema import CURVE_SCHEMA

SIZE = 100


@dataclass
class World:
    """Images, true boxes (x, y, w, h) and predicted boxes, to be changed by a test before it is written.

    truth: rows (file name, class, box, flags); predicted: rows (file name, class, box, score).
    """

    folder: Path
    images: list[str] = field(default_factory=lambda: ["a.jpg", "b.jpg", "c.jpg"])
    corpus: list[str] | None = None
    classes: list[str] = field(default_factory=lambda: ["cat", "dog"])
    model_classes: list[str] | None = field(default_factory=lambda: ["cat", "dog"])
    truth: list[tuple[str, str, Sequence[float], dict[str, Any]]] = field(default_factory=list)
    predicted: list[tuple[str, str, Sequence[float], float]] = field(default_factory=list)
    curves: list[tuple[str, str, Callable[[float], Sequence[int] | None]]] = field(default_factory=list)

    @property
    def run(self) -> Path:
        return self.folder / "run"

    @property
    def truth_file(self) -> Path:
        return self.folder / "truth.json"

    def coco(self) -> dict[str, Any]:
        image_id = {name: 7 * i for i, name in enumerate(self.images)}
        category_id = {name: 90 - i for i, name in enumerate(self.classes)}
        rows = [
            {"id": i, "image_id": image_id[name], "category_id": category_id[c], "bbox": list(box), **flags}
            for i, (name, c, box, flags) in enumerate(self.truth)
        ]
        return {
            "images": [{"id": i, "file_name": n, "width": SIZE, "height": SIZE} for n, i in image_id.items()],
            "annotations": rows,
            "categories": [{"id": i, "name": name} for name, i in category_id.items()],
        }

    def write(self, coco: Any = None) -> tuple[Path, Path]:
        """Write both; gives the run directory and the truth file."""
        self.run.mkdir(parents=True, exist_ok=True)
        names = self.images if self.corpus is None else self.corpus
        sizes = pa.array([SIZE] * len(names), pa.int32())
        ids = pa.array([100 + place for place in range(len(names))], pa.int64())
        table = {"image_id": ids, "file_name": pa.array(names, pa.string()), "width": sizes, "height": sizes}
        pq.write_table(pa.table(table), self.run / "corpus.parquet")
        pq.write_table(self._annotations(), self.run / "annotations.parquet")
        if self.curves:
            pq.write_table(self._curves(names), self.run / "curves.parquet")
        if self.model_classes is not None:
            (self.run / "model").mkdir(exist_ok=True)
            listing = {"classes": [{"id": i, "name": name} for i, name in enumerate(self.model_classes)]}
            (self.run / "model" / "model.json").write_text(json.dumps(listing))
        self.truth_file.write_text(json.dumps(self.coco() if coco is None else coco))
        return self.run, self.truth_file

    def _annotations(self) -> pa.Table:
        sides = {s: pa.array([b[i] for _, _, b, _ in self.predicted], pa.float32()) for i, s in enumerate("xywh")}
        return pa.table(
            {
                "file_name": pa.array([name for name, *_ in self.predicted], pa.string()),
                "category": pa.array([c for _, c, *_ in self.predicted], pa.string()),
                **sides,
                "score": pa.array([score for *_, score in self.predicted], pa.float32()),
            }
        )

    def _curves(self, names: list[str]) -> pa.Table:
        """On maps of half the image's size."""
        rows = []
        for name, category, box_at in self.curves:
            boxes = [box_at(threshold) or (0, 0, 0, 0) for threshold in CURVE_THRESHOLDS]
            corners = [(x // 2, y // 2, (x + w) // 2, (y + h) // 2) for x, y, w, h in boxes]
            curve = ThresholdCurve(
                (SIZE // 2, SIZE // 2), np.array(corners), np.array([any(box) for box in boxes]) * 1, 0.5, 0.3
            )
            image, number = 100 + names.index(name), (self.model_classes or []).index(category)
            rows.append(curve_row(curve, image_id=image, category_id=number, width=SIZE, height=SIZE))
        return pa.Table.from_pylist(rows, schema=CURVE_SCHEMA)


@pytest.fixture
def world(tmp_path: Path) -> World:
    """Three images; four pairs: cat in a found, dog in a missed, cat in b loosely found, dog in c not predicted."""
    made = World(tmp_path)
    made.truth = [
        ("a.jpg", "cat", (10, 10, 40, 40), {}),
        ("a.jpg", "dog", (50, 50, 40, 40), {}),
        ("b.jpg", "cat", (0, 0, 40, 40), {}),
        ("c.jpg", "dog", (10, 10, 80, 80), {}),
    ]
    made.predicted = [
        ("a.jpg", "cat", (10, 10, 40, 40), 0.9),
        ("a.jpg", "dog", (0, 0, 20, 20), 0.8),
        ("a.jpg", "dog", (50, 50, 40, 40), 0.7),
        ("b.jpg", "cat", (0, 0, 40, 24), 0.6),
    ]
    return made
