"""Print where the time of a run went."""

from flows.cli.terminal import err, print_table
from mining.engine.timing import FLOOR, PLACES, Phase, Timing

_DESCRIPTIONS: dict[Phase, str] = {
    "decode": "reading and decoding files",
    "resize": "resizing to every scale",
    "copy": "batches to the device",
    "network": "layers of the network: the floor",
    "maps": "other work on the device: normalisation, activation maps, gradients",
    "refine": "refined maps: cell classifier, affinity walk or cut",
    "regions": "fusing scales, extracting, filtering and merging boxes, curves",
    "write": "Parquet parts",
}


def print_timing(timing: Timing | None) -> None:
    """Print seconds and share of each phase, and how the run compares with the network alone."""
    if timing is None:
        err.print("Where the time went is not recorded: an earlier version mined the run.")
        return
    print_table(timing_rows(timing), ("stage", "s", "share", "what"))
    err.print(floor_sentence(timing))


def timing_rows(timing: Timing) -> list[tuple[str, str, str, str]]:
    """Return rows (stage, seconds, share, description), the total first."""
    total = max(timing.seconds, 1e-9)
    where: dict[str, str] = {
        "threads": f"{timing.threads} threads",
        "device": f"{', '.join(timing.devices)}, batches of {timing.batch_size}",
        "process": "the process",
    }
    rows = [("all", timing.seconds, f"{timing.images} images, {1000 * total / max(timing.images, 1):.1f} ms per image")]
    rows += [
        (phase, timing.stages[phase], f"{description} ({where[PLACES[phase]]})")
        for phase, description in _DESCRIPTIONS.items()
    ]
    rows.append(("waiting", timing.waiting, "nothing running" if timing.adds_up else "the device is idle"))
    return [(name, f"{seconds:.2f}", f"{seconds / total:.1%}", what) for name, seconds, what in rows]


def floor_sentence(timing: Timing) -> str:
    """Return a sentence that compares the run with its floor, the layers of the network alone."""
    floor = timing.stages[FLOOR]
    if not floor:
        return "The network did not run."
    note = (
        "" if timing.adds_up else " Threads work at the same time as the device, so the shares exceed 100 % together."
    )
    return (
        f"{timing.seconds / floor:.2f} times as long as the layers of the network alone ({floor:.2f} s), "
        f"the least that mining with this model can take.{note}"
    )
