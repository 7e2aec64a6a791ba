"""Numbers for the charts; the page's template draws them."""

from dataclasses import dataclass
from typing import Any

from mining.reporting.statistics import FINE, Cells, quantile

BARS = 25


Bar = tuple[str, float, float, bool]
"""Name, value, length in percent, and whether it is there to compare with only."""


@dataclass(frozen=True)
class Histogram:
    """Shares in percent over BARS equal steps of 0-1. bars: of the boxes; other: of the true boxes, or empty.

    highest: the largest share of either. median, other_median: to 0.001; other_median None without truth.
    """

    bars: list[float]
    other: list[float]
    highest: float
    median: float
    other_median: float | None

    @property
    def steps(self) -> list[tuple[float, float, float]]:
        """(from, to, share) of each bar, for a text alternative."""
        return [(place / BARS, (place + 1) / BARS, share) for place, share in enumerate(self.bars)]


def build_histogram(cells: Cells, other: Cells | None = None) -> Histogram | None:
    """None where nothing was counted. other: the same of the true boxes."""
    if not cells.sum():
        return None
    bars = _shares(cells)
    others = _shares(other) if other is not None and other.sum() else []
    other_median = quantile(other, 0.5) if other is not None and others else None
    return Histogram(bars, others, max(bars + others), quantile(cells, 0.5), other_median)


def _shares(cells: Cells) -> list[float]:
    coarse = cells.reshape(BARS, FINE // BARS).sum(axis=1)
    return [float(value) for value in 100 * coarse / coarse.sum()]


def class_bars(classes: list[tuple[str, int]]) -> list[Bar]:
    """One bar a class, the first the longest."""
    return [(name, boxes, 100 * boxes / classes[0][1], False) for name, boxes in classes]


def baseline_bars(scores: dict[str, Any] | None) -> list[Bar]:
    """CorLoc in percent, and what it must be better than."""
    if scores is None:
        return []
    baselines = scores["baselines"]
    bars = (
        ("This run", scores["corloc"]["value"], False),
        ("Guess: a centred box of half the area", baselines["centred_half_area"], True),
        ("Guess: the whole image", baselines["whole_image"], True),
    )
    return [(name, 100 * share, 100 * share, plain) for name, share, plain in bars if share is not None]
