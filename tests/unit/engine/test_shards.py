"""Mining a shard: its part, its progress and its timing."""

import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from torch import Tensor, nn

from mining.backbones.base import Backbone, StageSpec
from mining.corpus import read_shard
from mining.engine.miner import Miner
from mining.localizers.base import ClassChoice, Localization
from mining.models.card import read_card
from mining.runs.shard_files import part_outcomes, part_timing
from mining.runs.shard_mining import mine_shard
from tests.unit.engine.painting import (
    ALL,
    BOX,
    MANY,
    RED,
    THINGS,
    Painted,
    black,
    crowd,
    planned_run,
    scene,
)

# --- shards ------------------------------------------------------------------------------------------------------------


def test_each_shard_has_a_part_with_its_images_in_corpus_order(tmp_path: Path) -> None:
    run = planned_run(tmp_path, crowd(), None, shard_size=4, batch_size=3)
    for shard in (2, 0, 3, 1):
        progress: list[int] = []
        outcomes = mine_shard(run, shard, progress.append)
        assert sum(progress) == len(outcomes) == (2 if shard == 3 else 4)
    assert [[o.image_id for o in part_outcomes(run.part(shard))] for shard in range(4)] == [[1, 2, 3, 4], [5, 6, 7, 8], [9, 10, 11, 12], [13, 14]]  # fmt: skip


def test_the_boxes_of_a_part_are_in_image_order(tmp_path: Path) -> None:
    """Although batches are formed by shape."""
    run = planned_run(tmp_path, crowd(), None, batch_size=3)
    mine_shard(run, 0)
    ids = pq.read_table(run.part(0))["image_id"].to_pylist()
    assert len(set(ids)) > 10
    assert ids == sorted(ids)


@pytest.mark.parametrize("batch_size", [1, 2, 16])
def test_progress_counts_each_image_once(tmp_path: Path, batch_size: int) -> None:
    pictures = {**THINGS, "b.png": b"?", "d.png": black(), "f.png": MANY, "g.png": MANY, "h.png": b""}
    run = planned_run(tmp_path, pictures, None, batch_size=batch_size)
    progress: list[int] = []
    mine_shard(run, 0, progress.append)
    assert sum(progress) == len(pictures)


def test_the_map_callback_receives_each_map_once(tmp_path: Path) -> None:
    run = planned_run(tmp_path, {**THINGS, "b.png": b"?"}, dict.fromkeys([*THINGS, "b.png"], ALL))
    seen: list[tuple[str, str, tuple[int, int]]] = []

    def watch(row: dict[str, Any], category: str, activation: np.ndarray) -> None:
        assert activation.shape == (row["height"], row["width"])
        assert activation.dtype == np.float32
        seen.append((row["file_name"], category, activation.shape))

    mine_shard(run, 0, on_map=watch)
    assert sorted((name, category) for name, category, _ in seen) == sorted((n, c) for n in THINGS for c in ALL)
    mine_shard(run, 0, on_map=watch)
    assert len(seen) == len(THINGS) * len(ALL), "the part already exists"


def test_a_completed_shard_is_not_mined_again(tmp_path: Path) -> None:
    run = planned_run(tmp_path, THINGS, dict.fromkeys(THINGS, ALL))
    first = mine_shard(run, 0)
    before = run.part(0).stat().st_mtime_ns
    (tmp_path / "images" / "a.png").unlink()
    progress: list[int] = []
    again = mine_shard(run, 0, progress.append)
    assert [(o.image_id, o.state) for o in again] == [(o.image_id, o.state) for o in first]
    assert progress == [3]
    assert run.part(0).stat().st_mtime_ns == before


def test_a_damaged_part_is_mined_again_with_the_same_rows(tmp_path: Path) -> None:
    run = planned_run(tmp_path, crowd(), None, batch_size=4, scales=(1.0, 2.0))
    mine_shard(run, 0)
    sound = pq.read_table(run.part(0))
    run.part(0).write_bytes(run.part(0).read_bytes()[:500])
    mine_shard(run, 0)
    assert pq.read_table(run.part(0)).equals(sound)
    assert sound.num_rows > 10


# --- timing ------------------------------------------------------------------------------------------------------------


def test_a_part_records_the_seconds_of_each_stage(tmp_path: Path) -> None:
    run = planned_run(tmp_path, crowd(), None, scales=(1.0, 1.5), batch_size=3, refine="walk")
    started = time.perf_counter()
    mine_shard(run, 0)
    taken = time.perf_counter() - started
    timing = part_timing(run.part(0))
    assert timing is not None
    assert (timing.images, timing.threads, timing.adds_up, timing.devices) == (14, 2, True, ["cpu (torch, float32)"])
    assert set(timing.stages) == {"decode", "resize", "copy", "network", "maps", "refine", "regions", "write"}
    assert all(seconds > 0 for seconds in timing.stages.values())
    assert sum(timing.stages.values()) + timing.waiting == pytest.approx(timing.seconds, rel=1e-6)
    assert timing.seconds <= taken


def test_timing_is_recorded_separately_for_each_shard(tmp_path: Path) -> None:
    run = planned_run(tmp_path, crowd(), None, shard_size=7)
    for shard in (0, 1):
        mine_shard(run, shard)
    first, second = (part_timing(run.part(shard)) for shard in (0, 1))
    assert first is not None
    assert second is not None
    assert first.plus(second).images == 14
    assert first.plus(second).seconds == first.seconds + second.seconds
    assert second.stages["network"] < second.seconds


class SlowIdentity(nn.Module):
    """Returns its input after a delay."""

    def forward(self, images: Tensor) -> Tensor:
        time.sleep(0.2)
        return images


class SlowMaps(Painted):
    """Sleeps while the maps are computed, outside of the network's layers."""

    def localize(self, images: Tensor, classes: ClassChoice) -> Localization:
        time.sleep(0.2)
        return super().localize(images, classes)


@pytest.mark.parametrize("stage", ["network", "maps"])
def test_timing_separates_the_network_layers_from_the_map_computation(tmp_path: Path, stage: str) -> None:
    run = planned_run(tmp_path, {"a.png": scene((BOX, RED))}, {"a.png": ("red",)}, workers=1)
    layer, kind = (SlowIdentity(), Painted) if stage == "network" else (nn.Identity(), SlowMaps)
    spec = StageSpec([layer], (3,), (1,), None, mean=(0.0,) * 3, std=(1 / 255,) * 3)
    miner = Miner(kind(Backbone("pixels", spec), 3), read_card(run.model), run.settings)
    miner.mine(read_shard(run.corpus, 0).to_pylist())
    assert miner.timing is not None
    other = {"network": "maps", "maps": "network"}[stage]
    assert miner.timing.stages[stage] >= 0.2 > miner.timing.stages[other]
