"""Mine a corpus: open the run, one task a shard, close the run."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mining.config import MineSettings
from mining.engine.timing import FLOOR, PLACES, Phase, Timing
from mining.errors import DamagedPartError
from mining.runs.summaries import MinePlan, MineSummary
from tasks.orchestration import step

_STAGES: dict[Phase, str] = {
    "decode": "reading files and decoding them",
    "resize": "to every scale",
    "copy": "batches to the device",
    "network": "its layers: the floor",
    "maps": "all other work on the device: normalisation, maps of the classes asked for, gradients",
    "regions": "adding the scales, cutting, filtering, merging, curves",
    "write": "Parquet parts",
}


@step(name="open run")
def open_run(settings: MineSettings) -> MinePlan:
    """Scan the corpus, bring the model in, and see which shards are left."""
    from mining.runs import mining_job

    return mining_job.plan_mining(settings)


@step(name="close run")
def close_run(run: Path, seconds: float) -> MineSummary | None:
    """Merge the parts into the annotations and finish the record; None where parts were damaged and thrown away."""
    from mining.runs import mining_job

    try:
        return mining_job.finish_mining(run, seconds)
    except DamagedPartError:
        if not mining_job.discard_damaged_parts(run):
            raise
        return None


@contextmanager
def lock_run(run: Path) -> Iterator[None]:
    """Keep other processes off the run; an interruption is written into its record."""
    from mining.runs import mining_job

    with mining_job.lock_run(run):
        yield


def speed_rows(timing: Timing) -> list[tuple[str, str, str, str]]:
    """Rows (stage, seconds, share, what it is) for a terminal, the whole first."""
    whole = max(timing.seconds, 1e-9)
    rows = [("all", timing.seconds, f"{timing.images} images, {1000 * whole / max(timing.images, 1):.1f} ms each")]
    where: dict[str, str] = {
        "threads": f"{timing.threads} threads",
        "device": f"{', '.join(timing.devices)}, batches of {timing.batch_size}",
        "process": "the process",
    }
    rows += [(stage, timing.stages[stage], f"{what} ({where[PLACES[stage]]})") for stage, what in _STAGES.items()]
    rows.append(("waiting", timing.waiting, "nothing at work" if timing.turns else "the device has nothing to do"))
    return [(name, f"{seconds:.2f}", f"{seconds / whole:.1%}", what) for name, seconds, what in rows]


def speed_in_words(timing: Timing) -> str:
    """A sentence that compares the run with its floor."""
    floor = timing.stages[FLOOR]
    if not floor:
        return "The network had nothing to do."
    beside = "" if timing.turns else " Threads work while the device does, so that shares add up to more than all."
    return (
        f"{timing.seconds / floor:.2f} times what the layers of the network take by themselves ({floor:.2f} s), below "
        f"which no mining with it can go.{beside}"
    )
