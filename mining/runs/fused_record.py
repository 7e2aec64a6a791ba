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
        counts = fused["found_by"]
        words = [f"{count:,} by {_word(number)}" for number, count in enumerate(counts, start=1)]
        words[-1] = f"{counts[-1]:,} by {'both' if len(counts) == 2 else 'all of them'}"
        return f"Boxes of the runs {names}, combined; found {_listed(words)}."
    return (
        f"Boxes of the runs {names}, combined: {fused['moved']:,} of the first are the mean with one of the second, a "
        f"detector's; {fused['added']:,} of the second are further ones."
    )


def _listed(words: Sequence[str]) -> str:
    return f"{', '.join(words[:-1])} and {words[-1]}" if len(words) > 1 else words[0]


def _word(number: int) -> str:
    return _NUMBERS[number - 1] if number <= len(_NUMBERS) else str(number)
