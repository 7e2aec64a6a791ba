"""Mine boxes from a corpus."""

import time

from mining.config import MineSettings
from mining.results import MineSummary
from tasks.mining import close_run, mine_shard, note_stop, open_run
from tasks.progress import Stage


def mine(settings: MineSettings) -> MineSummary:
    """Open the run, mine every shard that is left, close the run."""
    plan = open_run(settings)
    started = time.monotonic()
    stage = Stage("mine", plan.images, plan.done_images)
    try:
        for _ in mine_shard.each(plan.shards, plan.run, stage, retries=settings.retries):
            pass
    except BaseException:
        note_stop(plan.run)
        raise
    return close_run(plan.run, time.monotonic() - started)
