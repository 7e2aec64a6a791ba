"""Mine boxes from a corpus."""

import time

from mining.config import MineSettings
from mining.runs.summaries import MineSummary
from tasks.mining import close_run, lock_run, open_run
from tasks.progress import Stage
from tasks.runners import runner_named


def mine(settings: MineSettings) -> MineSummary:
    """Open the run, have every shard mined that is left, close the run."""
    started = time.monotonic()
    mine_shards = runner_named(settings.runner)
    with lock_run(settings.out):
        summary = None
        while summary is None:
            plan = open_run(settings)
            mine_shards(plan, settings, Stage("mine", plan.images, plan.done_images))
            summary = close_run(plan.run, time.monotonic() - started)
    return summary
