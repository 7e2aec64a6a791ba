"""Mine the shards one after the other, in this process."""

from mining.config import MineSettings
from mining.runs.retries import RETRY_PAUSE_S
from mining.runs.run import Run
from mining.runs.summaries import MinePlan
from tasks.orchestration import step
from tasks.progress import Stage


@step(name="mine shard", retry_delay_seconds=RETRY_PAUSE_S)
def mine_shard(shard: int, run: Run, stage: Stage | None = None) -> int:
    """Mine one shard into its part file; returns the number of images."""
    from mining.runs.shard_mining import mine_shard as mine

    return len(mine(run, shard, stage.advance if stage else lambda count: None))


def mine_in_this_process(plan: MinePlan, settings: MineSettings, stage: Stage) -> None:
    """Mine each shard, as a Prefect task inside a flow run."""
    for _ in mine_shard.each(plan.shards, plan.run, stage, retries=settings.retries):
        pass
