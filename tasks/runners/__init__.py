"""Who mines the shards of a run: this process, processes of this machine, or a Ray cluster.

A runner sees to it that each shard of a plan is mined at least once; the engine leaves alone what is done already, and
a shard's part appears whole or not at all. So whoever mines it, and however often, the rows are the same.
"""

from collections.abc import Callable
from importlib.util import find_spec

from mining.config import MineSettings
from mining.errors import InputError
from mining.runs.summaries import MinePlan
from tasks.progress import Stage

Runner = Callable[[MinePlan, MineSettings, Stage], None]


def runner_named(name: str) -> Runner:
    """local, processes or ray; raises InputError where the package that it takes is not installed."""
    if name == "processes":
        from tasks.runners.processes import mine_in_processes

        return mine_in_processes
    if name == "ray":
        if find_spec("ray") is None or find_spec("prefect_ray") is None:
            raise InputError("The runner ray needs Ray: pip install 'boxmine[ray]'.")
        from tasks.runners.ray_cluster import mine_on_ray

        return mine_on_ray
    from tasks.runners.local import mine_here

    return mine_here
