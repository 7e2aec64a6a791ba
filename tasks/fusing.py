"""The task that combines the boxes of several runs."""

from mining.fusion import run_fusion
from tasks.orchestration import step

fuse_runs = step(name="fuse runs")(run_fusion.fuse_runs)
