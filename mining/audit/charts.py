"""Numbers for the charts; the page's template draws them."""

from dataclasses import dataclass

from mining.audit.survey import FINE, Cells, quantile

BARS = 25


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


def histogram(cells: Cells, other: Cells | None = None) -> Histogram | None:
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
