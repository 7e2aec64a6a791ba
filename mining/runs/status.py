"""Report a run's status from its directory: no server, and no process that mines it, needs to be running."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from mining.corpus import QUARANTINED, read_summary, shard_count
from mining.runs.part_origins import PartOrigins
from mining.runs.repair import refuse_damage
from mining.runs.run import Run
from mining.runs.shard_files import read_outcomes

_RATE_PARTS = 20  # the rate is that of the latest parts


@dataclass(frozen=True)
class RunStatus:
    """The status of a run.

    Attributes:
        run: The run directory.
        state: running, killed (recorded as running, but no process works on it), stopped or finished.
        images: Images of the corpus.
        done: Images of the shards that are mined.
        quarantined: Images of these that could not be used.
        shards: Shards of the corpus.
        shards_done: Shards that are mined.
        failed: Why the run stopped, if that was an error.
        rate: Images per second lately; None if unknown.
        seconds_left: Remaining time at this rate; None if unknown.
        warnings: Of a finished run, see MineSummary.
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
    warnings: list[str] = field(default_factory=list)


def read_status(path: Path) -> RunStatus:
    """Return the status of the run in a directory.

    Raises:
        RunError: There is no run.
        DamagedFileError: A file of a finished run is damaged.
    """
    run = Run.open(path)
    state: Literal["running", "killed", "stopped", "finished"] = run.state
    if state == "running" and not run.is_locked():
        state = "killed"
    failed = run.record.get("failed")
    if not run.corpus.exists():
        return RunStatus(run.path, state, failed=failed)
    if state == "finished":
        refuse_damage(run)
    images, shards = read_summary(run.corpus).images, shard_count(run.corpus)
    if state == "finished":
        quarantined = run.record["counts"]["states"].get(QUARANTINED, 0)
        warnings = list(run.record["warnings"])
        return RunStatus(run.path, state, images, images, quarantined, shards, shards, warnings=warnings)
    curves, origins, quarantined, sizes = run.settings.curves, PartOrigins(run), 0, {}
    for shard in range(shards):
        outcomes = read_outcomes(*run.files_of(shard, curves=curves), origins.of(shard))
        if outcomes is not None:
            sizes[shard] = len(outcomes)
            quarantined += sum(outcome.state == QUARANTINED for outcome in outcomes)
    rate = _images_per_second(run, sizes) if state == "running" else None
    left = images - sum(sizes.values())
    return RunStatus(
        run.path, state, images, sum(sizes.values()), quarantined, shards, len(sizes), failed, rate,
        left / rate if rate else None,
    )  # fmt: skip


def _images_per_second(run: Run, sizes: dict[int, int]) -> float | None:
    """Return the rate between the latest parts, from the times of their files. sizes: images by shard."""
    written = sorted((run.part(shard).stat().st_mtime, shard) for shard in sizes)[-_RATE_PARTS:]
    if len(written) < 2:
        return None
    seconds = written[-1][0] - written[0][0]
    return sum(sizes[shard] for _, shard in written[1:]) / seconds if seconds > 0 else None
