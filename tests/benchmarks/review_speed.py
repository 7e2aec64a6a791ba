"""The review of a million boxes: how long it takes to start, and how long reviewers wait for a page."""

import json
import os
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import urlencode
from urllib.request import Request, urlopen

import numpy as np
import pyarrow as pa
from large import DIFFERENT, ONE_THREAD, linked_corpus
from measuring import Figure

from mining.config.mine import CURVE_THRESHOLDS
from mining.corpus import CORPUS_SCHEMA, LABELLED
from mining.models.card import CARD_FILE, ModelCard
from mining.models.card import FORMAT as CARD_FORMAT
from mining.runs.record import FORMAT as RUN_FORMAT
from mining.runs.run import Run
from mining.runs.schema import ANNOTATION_SCHEMA, CURVE_SCHEMA
from mining.storage.parquet import parquet_writer

IMAGES, PER_IMAGE = 200_000, 5
CLASSES = 20
SHARD = 2_000  # images per row group
PAGES = 20
START_GOAL_S, PAGE_GOAL_MS = 5.0, 200.0


def review_start_1m() -> Figure:
    """Seconds from the command to its address, with a million boxes; measured three times."""
    with _million() as run:
        seconds = []
        for _ in range(3):
            with _reviewing(run) as (_, waited):
                seconds.append(waited)
    return Figure(statistics.median(seconds), START_GOAL_S, "s", f"{min(seconds):.1f} to {max(seconds):.1f}")


def review_page_1m() -> Figure:
    """Milliseconds of the slowest kind of page, in the median, with a million boxes."""
    with _million() as run, _reviewing(run) as (address, _):
        reviewer = {"reviewer": "Ada"}
        first = _milliseconds(address, "api/run")
        once = {
            queue: _milliseconds(address, "api/next", {"queue": queue, **reviewer})
            for queue in ("doubtful", "class:c3")
        }
        _milliseconds(address, "api/images/1/240.jpg")  # imports torch
        found: dict[str, list[float]] = {}
        for _ in range(PAGES):
            for queue in once:
                item = _get(address, "api/next", {"queue": queue, **reviewer})["item"]
                shown = {name: item[name] for name in ("kind", "number", "plan", "why")}
                said = {"shown": shown, "verdict": "nothing", **reviewer}
                found.setdefault("verdict", []).append(_milliseconds(address, "api/verdicts", body=said))
                found.setdefault(f"next of {queue}", []).append(
                    _milliseconds(address, "api/next", {"queue": queue, **reviewer})
                )
                picture = f"api/images/{item['image']['id']}/1280.jpg"
                found.setdefault("photo, first time", []).append(_milliseconds(address, picture))
            found.setdefault("24 boxes", []).append(
                _milliseconds(address, "api/page", {"queue": "class:c3", **reviewer})
            )
    medians = {name: statistics.median(values) for name, values in found.items()}
    detail = "; ".join(f"{name} {value:.0f}" for name, value in medians.items())
    lists = ", ".join(f"first of {queue} {value:.0f}" for queue, value in once.items())
    return Figure(max(medians.values()), PAGE_GOAL_MS, "ms", f"{detail}; once: list of queues {first:.0f}, {lists}")


@contextmanager
def _million() -> Iterator[Path]:
    with TemporaryDirectory() as folder:
        yield _write_run(Path(folder))


def _write_run(folder: Path) -> Path:
    """A finished run of IMAGES * PER_IMAGE random boxes with threshold curves; its photos are links to a few files."""
    linked_corpus(folder, IMAGES, (320, 480), 1)
    random, run = np.random.default_rng(0), Run(folder / "run")
    (run.path / "model").mkdir(parents=True)
    names = [f"{number // 1000:03d}/{number:07d}.jpg" for number in range(IMAGES)]
    sizes = [(folder / "images" / name).stat().st_size for name in names[:DIFFERENT]]
    size = {"width": 400, "height": 300}
    with (
        parquet_writer(run.corpus, CORPUS_SCHEMA) as corpus,
        parquet_writer(run.annotations, ANNOTATION_SCHEMA) as annotations,
        parquet_writer(run.curves, CURVE_SCHEMA) as curves,
    ):
        for first in range(0, IMAGES, SHARD):
            ids = np.arange(first, first + SHARD)
            corpus.write_table(_table(CORPUS_SCHEMA, SHARD, {
                **size, "image_id": ids + 1, "file_name": names[first : first + SHARD], 
                "bytes": [sizes[one % DIFFERENT] for one in ids.tolist()], "state": LABELLED,
            }))  # fmt: skip
            owner = np.repeat(ids, PER_IMAGE)
            boxes = len(owner)
            category = 1 + random.integers(0, CLASSES, boxes)
            xywh = random.uniform(20, 150, (4, boxes)).round(2)
            score = random.random(boxes)
            annotations.write_table(_table(ANNOTATION_SCHEMA, boxes, {
                **size, "annotation_id": owner * PER_IMAGE + np.tile(np.arange(PER_IMAGE), SHARD) + 1,
                "image_id": owner + 1, "file_name": [names[one] for one in owner], "category_id": category,
                "category": [f"c{one}" for one in category], **dict(zip("xywh", xywh, strict=True)), "score": score,
                "area": xywh[2] * xywh[3], "class_score": score, "peak": 1.0, "mean_activation": 0.5, "threshold": 0.3,
                "scales": [1.0], "localizer": "cam", "model_sha256": "0" * 64, "merged_from": 1, "source": "label",
            }))  # fmt: skip
            # one curve per image and class: that of the first of its boxes
            _, kept = np.unique(owner * (CLASSES + 1) + category, return_index=True)
            edges = np.stack([xywh[0], xywh[1], xywh[0] + xywh[2], xywh[1] + xywh[3]], axis=1)[kept].astype(np.uint16)
            curves.write_table(_table(CURVE_SCHEMA, len(kept), {
                **size, "image_id": owner[kept] + 1, "category_id": category[kept], "map_width": 400, "map_height": 300,
                "otsu": 0.5, "entropy": 0.5, "xyxy": _lists(np.tile(edges, len(CURVE_THRESHOLDS))),
                "boxes": _lists(np.ones((len(kept), len(CURVE_THRESHOLDS)), np.uint8)),
            }))  # fmt: skip
    classes = [{"id": number, "name": f"c{number}"} for number in range(1, CLASSES + 1)]
    card = ModelCard("cam", "x", "multi", classes, input_size=64, normalisation={})
    (run.model / CARD_FILE).write_text(json.dumps({"format": CARD_FORMAT, **asdict(card)}))
    record = {"state": "finished", "name": "million", "config": {"images": str(folder / "images")}}
    (run.path / "run.json").write_text(json.dumps({"format": RUN_FORMAT, **record}))
    return run.path


def _table(schema: pa.Schema, rows: int, values: dict[str, Any]) -> pa.Table:
    """Columns of a schema; a single value is repeated, and a missing one is null."""
    columns = []
    for one in schema:
        value = values.get(one.name)
        is_column = isinstance(value, np.ndarray | pa.Array) or (isinstance(value, list) and len(value) == rows)
        columns.append(pa.array(value if is_column else [value] * rows, one.type))
    return pa.Table.from_arrays(columns, schema=schema)


def _lists(values: np.ndarray) -> pa.Array:
    return pa.FixedSizeListArray.from_arrays(pa.array(values.ravel()), values.shape[1])


@contextmanager
def _reviewing(run: Path) -> Iterator[tuple[str, float]]:
    """The review in a process of its own: its address, and the seconds until it was printed."""
    cache = {"BOXMINE_CACHE": str(run.parent / "cache")}
    command = [sys.executable, "-m", "boxmine", "audit", str(run), "--no-browser", "--port", "0"]
    started = time.perf_counter()
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env={**os.environ, **ONE_THREAD, **cache})
    try:
        assert process.stderr is not None
        lines = ""
        while (found := re.search(r"http://[\d.]+:\d+/", lines)) is None:
            line = process.stderr.readline()
            assert line, lines
            lines += line
        yield found[0], time.perf_counter() - started
    finally:
        process.terminate()
        process.wait(60)


def _get(address: str, path: str, values: dict[str, Any] | None = None, body: dict[str, Any] | None = None) -> Any:
    query = f"?{urlencode(values)}" if values else ""
    data = None if body is None else json.dumps(body).encode()
    request = Request(f"{address}{path}{query}", data, {"Content-Type": "application/json"})
    with urlopen(request, timeout=120) as answer:
        content = answer.read()
        return json.loads(content) if "json" in answer.headers["content-type"] else content


def _milliseconds(
    address: str, path: str, values: dict[str, Any] | None = None, body: dict[str, Any] | None = None
) -> float:
    started = time.perf_counter()
    _get(address, path, values, body)
    return 1000 * (time.perf_counter() - started)
