"""One shard after the other, in this process."""

from pathlib import Path

from mining.config import MineSettings
from mining.runs.summaries import MinePlan
from tasks.orchestration import PAUSE_SECONDS, step
from tasks.progress import Stage


@step(name="mine shard", retry_delay_seconds=PAUSE_SECONDS)
def mine_shard(shard: int, run: Path, stage: Stage | None = None) -> int:
    """Mine one shard into its part file; gives the number of images."""
    from mining.runs.shard_mining import mine_shard as mine

    return len(mine(run, shard, stage.advance if stage else lambda count: None))


def mine_here(plan: MinePlan, settings: MineSettings, stage: Stage) -> None:
    """Mine each shard, as a Prefect task where a flow run is under way."""
    for _ in mine_shard.each(plan.shards, plan.run, stage, retries=settings.retries):
        pass
