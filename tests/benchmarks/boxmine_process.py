"""Run boxmine in this process; the last line on stdout is its cost as JSON.

    python tests/benchmarks/boxmine_process.py mine --images photos --model models/tiny --out runs/first

Models on the backbone `tiny` of the tests can be loaded here.
"""

import json
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from flows.cli import application


@dataclass
class CommandCost:
    """The cost of a command.

    Attributes:
        seconds: Wall time, without imports of torch.
        computing: The same in CPU seconds.
        imports: Memory at the start, in MB.
        peak: Peak memory, in MB.
        reporting: Seconds in which the engine waited for its progress to be reported.
        shards: When each shard began and ended, in seconds of the command.
    """

    seconds: float = 0.0
    computing: float = 0.0
    imports: float = 0.0
    peak: float = 0.0
    reporting: float = 0.0
    shards: list[tuple[float, float]] = field(default_factory=list)

    @property
    def engine(self) -> float:
        """Seconds during which the engine mined."""
        return sum(end - begin for begin, end in self.shards) - self.reporting

    @property
    def between(self) -> float:
        """Seconds from the start of the first shard to the end of the last during which it did not."""
        return self.shards[-1][1] - self.shards[0][0] - self.engine


def memory(name: str) -> float:
    """Read VmRSS or VmHWM in MB; not ru_maxrss, which a process inherits from the one that started it."""
    return int(Path("/proc/self/status").read_text().split(f"{name}:")[1].split()[0]) / 1024


def prepare_to_mine(cost: CommandCost) -> None:
    # imported here, because other commands need no networks
    import pytest

    from mining.runs import shard_mining
    from tests.factories import register_tiny_backbone

    register_tiny_backbone(pytest.MonkeyPatch())
    mine_shard, started = shard_mining.mine_shard, time.perf_counter()

    def mine_timed(run: Path, shard: int, notify: Callable[[int], None]) -> Any:
        def report(count: int) -> None:
            begin = time.perf_counter()
            notify(count)
            cost.reporting += time.perf_counter() - begin

        begin = time.perf_counter() - started
        outcomes = mine_shard(run, shard, report)
        cost.shards.append((begin, time.perf_counter() - started))
        return outcomes

    shard_mining.mine_shard = mine_timed  # type: ignore[assignment]


if __name__ == "__main__":
    cost = CommandCost()
    if sys.argv[1] == "mine":
        prepare_to_mine(cost)
    cost.imports, started, computed = memory("VmRSS"), time.perf_counter(), time.process_time()
    code = application.run_command(sys.argv[1:])
    cost.seconds, cost.computing = time.perf_counter() - started, time.process_time() - computed
    cost.peak = memory("VmHWM")
    print(json.dumps(asdict(cost)))
    sys.exit(code)
