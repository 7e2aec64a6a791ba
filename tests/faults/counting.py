"""How often what was done to it, for the table at the end of a test run."""

from collections import Counter

_times: Counter[str] = Counter()


def injected(fault: str, times: int = 1) -> None:
    """So often that fault, without anything lost or doubled: called when this has been looked at."""
    _times[fault] += times


def table() -> list[str]:
    """Markdown, a row a fault; empty where there was none."""
    if not _times:
        return []
    rows = [f"| {fault} | {times} | 0 |" for fault, times in sorted(_times.items())]
    return ["| injected | times | lost or doubled |", "|---|---|---|", *rows, f"| all | {_times.total()} | 0 |"]
