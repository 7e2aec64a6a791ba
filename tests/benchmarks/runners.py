"""Measure the speed and the overhead of runners.

    python tests/benchmarks/runners.py speed IMAGES LABELS MODEL [SPLIT]   each runner on real images
    python tests/benchmarks/runners.py overhead                            overhead per shard, and memory of the main process

Each measurement runs in another process. In `overhead` all shards are done already, so that only the runner's work is
left: to send a task, check the part, and return the result.
"""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from boxmine_process import memory
from measuring import ROOT

from flows.mine import mine
from mining.config import MineSettings
from mining.runs.summaries import MinePlan
from tasks.progress import Stage
from tasks.runners import runner_named
from tests.sharded_corpus import mine_settings, read_tables, write_corpus

SHARD_COUNTS = (40, 4000)
KINDS: tuple[tuple[str, dict[str, object]], ...] = (
    ("local", {}),
    ("local", {"cpus_per_worker": 1}),
    ("processes", {"runner_workers": 2, "cpus_per_worker": 1}),
    ("ray", {"runner_workers": 1, "cpus_per_worker": 1}),
    ("ray", {"runner_workers": 3, "cpus_per_worker": 1}),
)


def measure_in_process(*arguments: object) -> dict[str, float]:
    command = [sys.executable, __file__, *map(str, arguments)]
    environment = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    said = subprocess.run(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True, check=True).stdout
    return json.loads(said.splitlines()[-1])


def timed(settings: MineSettings) -> dict[str, float]:
    """Measure seconds of the flow, and from the first progress message to the last, without the startup."""
    times: list[float] = []

    class TimedStage(Stage):
        def reach(self, done: int, total: int | None = None, text: str = "") -> None:
            super().reach(done, total, text)
            times.append(time.perf_counter())

    import flows.mine

    flows.mine.Stage = TimedStage  # type: ignore[misc]
    started = time.perf_counter()
    mine(settings)
    ended = time.perf_counter()
    return {"seconds": ended - started, "until_first": times[1] - times[0], "mining": times[-1] - times[0]}


def speed(images: str, labels: str, model: str, split: str | None = None) -> None:
    """Print a table of seconds, and whether the rows of runs with one core are equal."""
    with TemporaryDirectory() as folder:
        runs = []
        for number, (runner, options) in enumerate(KINDS):
            out = Path(folder) / str(number)
            given = {"runner": runner, "shard_size": 16, **options}
            corpus = {"images": images, "labels": labels, "split": split, "model": model, "out": str(out)}
            taken = measure_in_process("one", json.dumps({**corpus, **given}))
            runs += [out] if options else []
            print(
                f"{runner:>9} {options!s:<50} {taken['seconds']:6.1f} s total, {taken['mining']:6.1f} s mining, "
                f"first images after {taken['until_first']:.1f} s"
            )
        print("same rows:", all(read_tables(run) == read_tables(runs[0]) for run in runs))


def measure_overhead(run: Path, corpus: Path, runner: str, shards: int) -> dict[str, float]:
    """Measure ms per shard and MB of this process when every shard is done already."""
    settings = mine_settings(corpus, run, runner=runner, runner_workers=2, gpus_per_worker=0)
    before = memory("VmRSS")
    stage, times = Stage("mine", shards), list[float]()
    advance = stage.advance

    def note(count: int, text: str = "") -> None:
        advance(count, text)
        times.append(time.perf_counter())

    stage.advance = note  # type: ignore[method-assign]
    runner_named(runner)(MinePlan(run, shards, 0, [0] * shards, False), settings, stage)
    half = len(times) // 2
    return {"ms": 1000 * (times[-1] - times[half]) / (len(times) - 1 - half), "peak": memory("VmHWM"), "before": before}


def overhead() -> None:
    """Print a table of both runners, for few shards and for many."""
    with TemporaryDirectory() as folder:
        corpus = write_corpus(Path(folder))
        run = corpus / "run"
        mine(mine_settings(corpus, run))
        for runner in ("processes", "ray"):
            for shards in SHARD_COUNTS:
                found = measure_in_process("share", run, corpus, runner, shards)
                print(
                    f"{runner:>9} {shards:5d} shards: {found['ms']:.1f} ms per shard, {found['peak']:.0f} MB peak, "
                    f"{found['before']:.0f} MB of them before"
                )


if __name__ == "__main__":
    what, *arguments = sys.argv[1:]
    if what == "one":
        print(json.dumps(timed(MineSettings(**json.loads(arguments[0])))))
    elif what == "share":
        print(json.dumps(measure_overhead(Path(arguments[0]), Path(arguments[1]), arguments[2], int(arguments[3]))))
    else:
        {"speed": speed, "overhead": overhead}[what](*arguments)
