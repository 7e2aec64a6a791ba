"""Mine boxes from a corpus."""

import time

from mining.config import MineSettings
from mining.results import MineSummary
from tasks.mining import close_run, held, mine_shard, open_run
from tasks.progress import Stage


def mine(settings: MineSettings) -> MineSummary:
    """Open the run, mine every shard that is left, close the run."""
    started = time.monotonic()
    with held(settings.out):
        summary = None
        while summary is None:
            plan = open_run(settings)
            stage = Stage("mine", plan.images, plan.done_images)
            for _ in mine_shard.each(plan.shards, plan.run, stage, retries=settings.retries):
                pass
            summary = close_run(plan.run, time.monotonic() - started)
    return summary
