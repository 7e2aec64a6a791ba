"""Mine a corpus: open the run, one task a shard, close the run."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mining.config import MineSettings
from mining.results import MinePlan, MineSummary
from tasks.orchestration import step
from tasks.progress import Stage


@step(name="open run")
def open_run(settings: MineSettings) -> MinePlan:
    """Scan the corpus, bring the model in, and see which shards are left."""
    from mining import jobs

    return jobs.plan_mining(settings)


@step(name="mine shard", retry_delay_seconds=5)
def mine_shard(shard: int, run: Path, stage: Stage | None = None) -> int:
    """Mine one shard into its part file; gives the number of images."""
    from mining.engine import mine_shard as mine

    return len(mine(run, shard, stage.advance if stage else lambda count: None))


@step(name="close run")
def close_run(run: Path, seconds: float) -> MineSummary:
    """Merge the parts into the annotations and finish the record."""
    from mining import jobs

    return jobs.finish_mining(run, seconds)


@contextmanager
def held(run: Path) -> Iterator[None]:
    """Keep other processes off the run; an interruption is written into its record."""
    from mining import jobs

    with jobs.held(run):
        yield


def run_status(run: Path) -> dict[str, Any]:
    """State of a run and how many images are done."""
    from mining import jobs

    return jobs.status(run)
