"""What run.json says of a run whose boxes were combined from those of others."""

from collections.abc import Mapping, Sequence
from typing import Any

FUSED = "fused"  # key of run.json
_NUMBERS = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")


def describe_fusion(record: Mapping[str, Any]) -> str | None:
    """Return a sentence on where the boxes of a run are from; None if they are not combined.

    Args:
        record: Content of run.json.
    """
    fused = record.get(FUSED)
    if fused is None:
        return None
    names = _listed([str(name) for name in fused["runs"]])
    if "found_by" in fused:
        return f"Boxes of the runs {names}, combined; found {count_by_runs(fused['found_by'])}."
    return (
        f"Boxes of the runs {names}, combined: {fused['moved']:,} of the first are the mean with one of the second, a "
        f"detector's; {fused['added']:,} of the second are further ones."
    )


def count_by_runs(found_by: Sequence[int]) -> str:
    """Return e.g. '3 by one and 1 by both' from the number of boxes that one run found, that two found, and so on."""
    words = [f"{count:,} by {_word(number)}" for number, count in enumerate(found_by, start=1)]
    words[-1] = f"{found_by[-1]:,} by {'both' if len(found_by) == 2 else 'all of them'}"
    return _listed(words)


def _listed(words: Sequence[str]) -> str:
    return f"{', '.join(words[:-1])} and {words[-1]}" if len(words) > 1 else words[0]


def _word(number: int) -> str:
    return _NUMBERS[number - 1] if number <= len(_NUMBERS) else str(number)
