"""Where a run stands, told by its directory alone: no server, and no process that mines it, need be there."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from mining.corpus import QUARANTINED, read_summary, shard_count
from mining.runs.part_origins import PartOrigins
from mining.runs.repair import refuse_damage
from mining.runs.run import Run
from mining.runs.shard_files import done_outcomes

_RECENT_PARTS = 20  # the rate is that of the last ones


@dataclass(frozen=True)
class RunStatus:
    """Where a run stands.

    state: running (a process works on it), killed (it says so, but none does), stopped or finished. images: in all;
    done: of them; quarantined: of those done. shards: in all; shards_done: of them. failed: why it stopped, where that
    was a fault. rate: images a second lately; seconds_left: at that rate. Both None where they cannot be told.
    """

    run: Path
    state: Literal["running", "killed", "stopped", "finished"]
    images: int = 0
    done: int = 0
    quarantined: int = 0
    shards: int = 0
    shards_done: int = 0
    failed: str | None = None
    rate: float | None = None
    seconds_left: float | None = None


def read_status(run_dir: Path) -> RunStatus:
    """Look at a run. Raises RunError where there is none, and where a file of a finished one is damaged."""
    run = Run(run_dir)
    record = run.record
    state = record["state"]
    if state == "running" and not run.is_locked():
        state = "killed"
    failed = record.get("failed")
    if not run.corpus.exists():
        return RunStatus(run.path, state, failed=failed)
    if state == "finished":
        refuse_damage(run)
    images, shards = read_summary(run.corpus).images, shard_count(run.corpus)
    if state == "finished":
        quarantined = record["counts"]["states"].get(QUARANTINED, 0)
        return RunStatus(run.path, state, images, images, quarantined, shards, shards)
    curves, origins, quarantined, sizes = run.settings.curves, PartOrigins(run), 0, {}
    for shard in range(shards):
        outcomes = done_outcomes(*run.files_of(shard, curves=curves), origins.of(shard))
        if outcomes is not None:
            sizes[shard] = len(outcomes)
            quarantined += sum(one.state == QUARANTINED for one in outcomes)
    rate = _rate(run, sizes) if state == "running" else None
    left = images - sum(sizes.values())
    return RunStatus(
        run.path, state, images, sum(sizes.values()), quarantined, shards, len(sizes), failed, rate,
        left / rate if rate else None,
    )  # fmt: skip


def _rate(run: Run, sizes: dict[int, int]) -> float | None:
    """Images a second between the last parts, by the times of their files."""
    written = sorted((run.part(shard).stat().st_mtime, shard) for shard in sizes)[-_RECENT_PARTS:]
    if len(written) < 2:
        return None
    seconds = written[-1][0] - written[0][0]
    return sum(sizes[shard] for _, shard in written[1:]) / seconds if seconds > 0 else None
