"""boxmine in a process of its own: the last line on stdout tells as JSON what it took.

    python tests/benchmarks/boxmine_apart.py mine --images photos --model models/tiny --out runs/first

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
class Taken:
    """seconds: of the whole command, imports of torch apart; computing: the same, of cores. imports, peak: memory at its start and at most, in MB.

    shards: of each, when it was begun and ended, in seconds of the command; told: seconds in which the engine waited
    for its progress to be told.
    """

    seconds: float = 0.0
    computing: float = 0.0
    imports: float = 0.0
    peak: float = 0.0
    told: float = 0.0
    shards: list[tuple[float, float]] = field(default_factory=list)

    @property
    def engine(self) -> float:
        """Seconds in which the engine mined."""
        return sum(end - begin for begin, end in self.shards) - self.told

    @property
    def between(self) -> float:
        """Seconds from the first shard's begin to the last one's end in which it did not."""
        return self.shards[-1][1] - self.shards[0][0] - self.engine


def memory(name: str) -> float:
    """VmRSS or VmHWM in MB, not ru_maxrss: a process inherits that from the one that started it."""
    return int(Path("/proc/self/status").read_text().split(f"{name}:")[1].split()[0]) / 1024


def make_ready_to_mine(taken: Taken) -> None:
    # imported here: other commands do without networks
    import pytest

    from mining.runs import shard_mining
    from tests.factories import register_tiny_backbone

    register_tiny_backbone(pytest.MonkeyPatch())
    mine_shard, started = shard_mining.mine_shard, time.perf_counter()

    def watched(run: Path, shard: int, notify: Callable[[int], None]) -> Any:
        def tell(count: int) -> None:
            begin = time.perf_counter()
            notify(count)
            taken.told += time.perf_counter() - begin

        begin = time.perf_counter() - started
        outcomes = mine_shard(run, shard, tell)
        taken.shards.append((begin, time.perf_counter() - started))
        return outcomes

    shard_mining.mine_shard = watched  # type: ignore[assignment]


if __name__ == "__main__":
    taken = Taken()
    if sys.argv[1] == "mine":
        make_ready_to_mine(taken)
    taken.imports, started, computed = memory("VmRSS"), time.perf_counter(), time.process_time()
    code = application.run_command(sys.argv[1:])
    taken.seconds, taken.computing = time.perf_counter() - started, time.process_time() - computed
    taken.peak = memory("VmHWM")
    print(json.dumps(asdict(taken)))
    sys.exit(code)
