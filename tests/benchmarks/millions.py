"""A labelling job of millions of images without a network: the cost of planning, merging and publishing."""

import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa

from mining.corpus import CORPUS_SCHEMA, LABELLED, CorpusSummary, read_shard
from mining.corpus.shards import corpus_writer, write_shard, write_summary
from mining.engine.outcome import ImageOutcome
from mining.label_store import job, publish
from mining.label_store.settings import LabelSettings
from mining.models.card import ModelCard
from mining.models.checkpoint import build_localizer, save_model
from mining.runs import inputs, mining_job
from mining.runs.part_origins import PartOrigins
from mining.runs.run import Run
from mining.runs.shard_files import write_part

R = TypeVar("R")
SHARD = 256
WORKERS = 64
GATES_OFF = {"max_score_drift": None, "max_size_drift": None}


def simulate(folder: Path, images: int, *, plan_only: bool = False) -> None:
    """Print one row per step: seconds, and the peak memory of the process so far."""
    classes = [{"id": number, "name": f"class {number}"} for number in range(1, 21)]
    card = ModelCard("cam", "efficientnet_lite0", "multi", classes, 224, {})
    save_model(folder / "model", build_localizer(card)[0], card)
    (folder / "photos").mkdir()
    corpus = {"images": folder / "photos", "labels": "none"}
    settings = LabelSettings(
        store=str(folder / "labels"), runs=folder / "runs", corpus=corpus, model=str(folder / "model"),
        mine={"curves": False, "shard_size": SHARD}, gates=GATES_OFF,
    )  # fmt: skip
    print(f"{images:,} images, {-(-images // SHARD):,} shards of {SHARD}; imports take {_peak():.0f} MB")
    for night, listed in (("first night", images), ("second night, 1 % new", images + images // 100)):
        table = folder / f"{listed}.parquet"
        _write_listing(table, listed)
        inputs.list_images = _fixed_listing(table)  # type: ignore[assignment]  # `plan_1m` measures the listing of files
        plan = _timed(f"{night}: plan", lambda: job.plan_labels(settings))
        assert plan.run is not None
        if plan_only:
            return
        run = Run(plan.run.out)
        shards = mining_job.plan_mining(plan.run).shards
        origins = PartOrigins(run)
        _timed(f"{night}: {len(shards):,} parts", lambda: [_write_random_part(run, shard, origins) for shard in shards])  # noqa: B023
        _timed(f"{night}: resume", lambda: mining_job.plan_mining(plan.run))  # type: ignore[arg-type]  # noqa: B023
        _timed(f"{night}: merge", lambda: mining_job.finish_mining(run))  # noqa: B023
        summary = _timed(f"{night}: publish", lambda: publish.publish_labels(settings))
        assert summary is not None
        size = sum(path.stat().st_size for path in (folder / "labels").rglob("*") if path.is_file()) / 1e6
        parts = sum(path.stat().st_size for path in run.parts.iterdir()) / 1e6
        print(
            f"  {summary.images:,} images, {summary.boxes:,} boxes, version {summary.version}; parts {parts:.0f} MB, store {size:.0f} MB"
        )
        shutil.rmtree(run.parts)
    print(f"  Prefect: {-(-images // SHARD):,} task runs, {WORKERS} at a time")


def _fixed_listing(table: Path) -> Callable[..., None]:
    def list_images(_corpus: Any, _shard_size: int, _card: Any, _model: Any, out: Path, _hashes: Any) -> None:
        out.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(table, out)

    return list_images


def _write_listing(out: Path, images: int) -> None:
    summary = CorpusSummary("folder", images, 0, 0, 0, {}, {}, False, [])
    with corpus_writer(out) as writer:
        for first in range(0, images, SHARD):
            numbers = range(first, min(first + SHARD, images))
            fixed = {"width": None, "height": None, "labels": None, "split": None, "bytes": 1, "state": "pending"}
            values: dict[str, Any] = {name: [value] * len(numbers) for name, value in fixed.items()}
            values["image_id"] = [number + 1 for number in numbers]
            values["file_name"] = [f"{number // 10_000:05d}/{number:09d}.jpg" for number in numbers]
            values["content_hash"] = [f"{number * 2_654_435_761 % 2**64:064x}" for number in numbers]
            columns = [pa.array(values[one.name], one.type) for one in CORPUS_SCHEMA]
            write_shard(writer, pa.Table.from_arrays(columns, schema=CORPUS_SCHEMA))
        write_summary(writer, summary)


def _write_random_part(run: Run, shard: int, origins: PartOrigins) -> None:
    """Write a part with one or two random boxes per image."""
    rows = read_shard(run.corpus, shard).select(["image_id", "file_name"]).to_pylist()
    random = np.random.default_rng(shard)
    drawn = random.uniform(5, 200, (len(rows), 2, 4)).round(2).tolist()
    scores = random.random((len(rows), 2)).tolist()
    outcomes = []
    for row, boxes, score in zip(rows, drawn, scores, strict=True):
        found = [
            {
                **row, "width": 500, "height": 400, "category_id": 1 + row["image_id"] % 20,
                "category": f"class {1 + row['image_id'] % 20}", "x": x, "y": y, "w": w, "h": h, "area": w * h,
                "score": its, "class_score": its, "peak": 1.0, "mean_activation": 0.5, "threshold": 0.3,
                "scales": [1.0, 1.5, 2.0], "localizer": "cam", "model_sha256": "0" * 64, "merged_from": 1,
                "source": "prediction",
            }
            for (x, y, w, h), its in zip(boxes[: 1 + row["image_id"] % 2], score, strict=False)
        ]  # fmt: skip
        outcomes.append(ImageOutcome(row["image_id"], row["file_name"], LABELLED, 500, 400, None, found))
    write_part(run.part(shard), outcomes, origin=origins.of(shard))


def _timed(what: str, do: Callable[[], R]) -> R:
    began = time.perf_counter()
    result = do()
    print(f"  {what}: {time.perf_counter() - began:.1f} s, {_peak():.0f} MB", flush=True)
    return result


def _peak() -> float:
    # VmHWM, because a process inherits the ru_maxrss of the one that started it
    return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) / 1024
