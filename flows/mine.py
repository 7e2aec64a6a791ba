"""Mine boxes from a corpus."""

import time

from mining.config import MineSettings
from mining.errors import DamagedPartError
from mining.runs import mining_job
from mining.runs.summaries import MineSummary
from tasks.orchestration import step
from tasks.progress import Stage
from tasks.runners import runner_named

open_run = step(name="open run")(mining_job.plan_mining)
close_run = step(name="close run")(mining_job.finish_mining)


def mine(settings: MineSettings) -> MineSummary:
    """Open the run, mine the shards that are left, and merge their parts."""
    started = time.monotonic()
    mine_shards = runner_named(settings.runner)
    with mining_job.lock_run(settings.out):
        while True:
            plan = open_run(settings)
            mine_shards(plan, settings, Stage("mine", plan.images, plan.done_images))
            try:
                return close_run(plan.run, time.monotonic() - started)
            except DamagedPartError:
                if not mining_job.discard_damaged_parts(plan.run):
                    raise
