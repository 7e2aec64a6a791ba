"""Runners mine the shards of a run: in this process, in processes of this machine, or on a Ray cluster.

A runner sees to it that each shard of a plan is mined at least once. Shard execution is idempotent: the engine skips a
shard whose part exists, and a part appears whole or not at all. So any runner may mine any shard, any number of times,
and a run can be resumed under another runner.
"""

from collections.abc import Callable
from importlib.util import find_spec

from mining.config import MineSettings
from mining.errors import InputError
from mining.runs.summaries import MinePlan
from tasks.progress import Stage

Runner = Callable[[MinePlan, MineSettings, Stage], None]


def runner_named(name: str) -> Runner:
    """Return the runner local, processes or ray. Raises InputError if a package that it needs is not installed."""
    if name == "processes":
        from tasks.runners.processes import mine_in_processes

        return mine_in_processes
    if name == "ray":
        if find_spec("ray") is None or find_spec("prefect_ray") is None:
            raise InputError("The runner ray needs Ray: pip install 'boxmine[ray]'.")
        from tasks.runners.ray_cluster import mine_on_ray

        return mine_on_ray
    from tasks.runners.local import mine_in_this_process

    return mine_in_this_process
