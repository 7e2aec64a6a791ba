"""A finished run directory that a test writes from a few lines."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from mining.config.mine import CURVE_THRESHOLDS
from mining.corpus.schema import CORPUS_SCHEMA
from mining.corpus.shards import corpus_writer, write_shard, write_summary
from mining.corpus.summary import CorpusSummary
from mining.models.card import CARD_FILE, FORMAT, IMPORTED, ModelCard
from mining.regions.threshold_curves import ThresholdCurve, curve_row
from mining.runs.run import Run
from mining.runs.schema import ANNOTATION_SCHEMA, CURVE_SCHEMA, RANKING_SCHEMA
from mining.storage.parquet import parquet_writer

SIZE = 100
Box = Sequence[float]
CLASSES = ("cat", "dog", "cow")


@dataclass
class SmallRun:
    """Boxes of a run on images of 100 x 100 px, to be changed by a test before it is written.

    boxes: rows (file name, class, (x, y, w, h), other columns); curves: rows (file name, class, box by threshold, number
    of regions by threshold); rankings: probabilities by class name, by file name.
    """

    path: Path
    boxes: list[tuple[str, str, Box, dict[str, Any]]] = field(default_factory=list)
    curves: list[tuple[str, str, Callable[[float], Box | None], Callable[[float], int]]] = field(default_factory=list)
    rankings: dict[str, dict[str, float]] = field(default_factory=dict)
    hashes: dict[str, str] = field(default_factory=dict)
    states: dict[str, str] = field(default_factory=dict)
    first_id: int = 100

    def write(self) -> Run:
        files = sorted({row[0] for row in self.boxes} | set(self.states))
        ids = {name: self.first_id + i for i, name in enumerate(files)}
        (self.path / "model").mkdir(parents=True, exist_ok=True)
        listed = [{"id": i, "name": name} for i, name in enumerate(CLASSES, start=1)]
        card = ModelCard(IMPORTED, IMPORTED, "multi", listed, 1, normalisation={})
        (self.path / "model" / CARD_FILE).write_text(json.dumps({"format": FORMAT, **card.to_record()}))
        with corpus_writer(self.path / "corpus.parquet") as writer:
            rows = [self._image(name, ids) for name in files]
            write_shard(writer, pa.Table.from_pylist(rows, schema=CORPUS_SCHEMA))
            numbers = {name: number for number, name in enumerate(CLASSES, start=1)}
            write_summary(writer, CorpusSummary("folder", len(rows), 0, 0, 0, {}, numbers, False, []))
        self._write("annotations.parquet", ANNOTATION_SCHEMA, [self._box(i, ids) for i in range(len(self.boxes))])
        if self.curves:
            self._write("curves.parquet", CURVE_SCHEMA, [self._curve(row, ids) for row in self.curves])
        if self.rankings:
            self._write("rankings.parquet", RANKING_SCHEMA, [self._ranking(name, ids) for name in self.rankings])
        record = {
            "format": "boxmine-run/1", "name": "small", "state": "finished", "config": {"images": "photos"},
            "seconds": {"mining": 0, "finishing": 0},
        }  # fmt: skip
        (self.path / "run.json").write_text(json.dumps(record))
        return Run.open(self.path, finished=True)

    def _write(self, name: str, schema: pa.Schema, rows: list[dict[str, Any]]) -> None:
        with parquet_writer(self.path / name, schema) as writer:
            writer.write_table(pa.Table.from_pylist(rows, schema=schema))

    def _image(self, name: str, ids: dict[str, int]) -> dict[str, Any]:
        state = self.states.get(name, "labelled")
        return {
            "image_id": ids[name], "file_name": name, "width": SIZE, "height": SIZE, "state": state,
            "content_hash": self.hashes.get(name), "bytes": 1,
        }  # fmt: skip

    def _box(self, place: int, ids: dict[str, int]) -> dict[str, Any]:
        name, category, (x, y, w, h), values = self.boxes[place]
        return {
            "annotation_id": place + 1, "image_id": ids[name], "file_name": name, "width": SIZE, "height": SIZE,
            "category_id": CLASSES.index(category) + 1, "category": category, "x": x, "y": y, "w": w, "h": h,
            "area": w * h, "score": 0.5, "class_score": 0.5, "peak": 1.0, "mean_activation": 0.5, "threshold": 0.5,
            "scales": [1.0], "localizer": "cam", "model_sha256": "", "merged_from": 1, "source": "label",
            "refinement": "none", "mean_probability": 0.5, "cut_agreement": 0.5, "map_agreement": 0.5,
            "is_part": False, **values,
        }  # fmt: skip

    def _curve(self, row: Any, ids: dict[str, int]) -> dict[str, Any]:
        """On a map of half the image's size."""
        name, category, box_at, regions_at = row
        boxes = [box_at(threshold) or (0, 0, 0, 0) for threshold in CURVE_THRESHOLDS]
        corners = np.array([(x // 2, y // 2, (x + w) // 2, (y + h) // 2) for x, y, w, h in boxes])
        regions = np.array([regions_at(threshold) for threshold in CURVE_THRESHOLDS])
        curve = ThresholdCurve((SIZE // 2, SIZE // 2), corners, regions, 0.5, 0.5)
        number = CLASSES.index(category) + 1
        return curve_row(curve, image_id=ids[name], category_id=number, width=SIZE, height=SIZE)

    def _ranking(self, name: str, ids: dict[str, int]) -> dict[str, Any]:
        ranked = self.rankings[name]
        numbers = [CLASSES.index(category) + 1 for category in ranked]
        return {"image_id": ids[name], "category_ids": numbers, "probabilities": list(ranked.values())}


def generated_run(path: Path, images: int = 120, *, seed: int = 0, lift: float = 0.0) -> tuple[SmallRun, np.ndarray]:
    """A run of two boxes per image whose chance to be correct grows with score and agreement, and which are.

    lift: added to every class probability, which moves the distribution of this signal.
    """
    rng = np.random.default_rng(seed)
    run, correct = SmallRun(path), []
    for number in range(images):
        for category in ("cat", "dog"):
            quality = rng.normal()
            correct.append(rng.random() < 1 / (1 + np.exp(-2 * quality)))
            noisy = [float(1 / (1 + np.exp(-quality - rng.normal()))) for _ in range(4)]
            x, y = rng.integers(0, 40, 2).tolist()
            w, h = rng.integers(20, 60, 2).tolist()
            values = {
                "score": noisy[0], "cut_agreement": noisy[1], "map_agreement": noisy[2], "mean_probability": noisy[3],
                "class_score": float(np.clip(rng.uniform(0.3, 0.6) + lift, 0, 1)),
            }  # fmt: skip
            run.boxes.append((f"{number:04d}.jpg", category, (x, y, w, h), values))
    return run, np.array(correct)
