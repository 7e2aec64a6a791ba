"""Numbers for the charts that the page's templates draw."""

from dataclasses import dataclass

from mining.evaluation.scores import Scores
from mining.reporting.statistics import CELLS, Cells, quantile

BARS = 25
Bar = tuple[str, float, float, bool]
"""Name, value, length in percent, and whether the bar is a baseline."""


@dataclass(frozen=True)
class Histogram:
    """A histogram over 0-1 in BARS equal steps.

    Attributes:
        bars: Shares of the boxes in percent.
        other: Shares of the true boxes in percent, or empty.
        highest: The largest share of either.
        median: Median of the boxes, to 0.001.
        other_median: Median of the true boxes; None without them.
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
    """Build a histogram from finer counts.

    Args:
        cells: (CELLS,) boxes per cell of 0-1.
        other: The same for the true boxes.

    Returns:
        The histogram; None where nothing was counted.
    """
    if not cells.sum():
        return None
    other_shares = _shares(other) if other is not None and other.sum() else []
    other_median = quantile(other, 0.5) if other is not None and other_shares else None
    shares = _shares(cells)
    return Histogram(shares, other_shares, max(shares + other_shares), quantile(cells, 0.5), other_median)


def baseline_bars(scores: Scores | None) -> list[Bar]:
    """Return CorLoc in percent beside the content-independent baselines."""
    if scores is None:
        return []
    bars = (
        ("This run", scores["corloc"]["value"], False),
        ("Baseline: a centred box of half the area", scores["baselines"]["centred_half_area"], True),
        ("Baseline: the whole image", scores["baselines"]["whole_image"], True),
    )
    return [(name, 100 * share, 100 * share, is_baseline) for name, share, is_baseline in bars if share is not None]


def _shares(cells: Cells) -> list[float]:
    coarse = cells.reshape(BARS, CELLS // BARS).sum(axis=1)
    return [float(value) for value in 100 * coarse / coarse.sum()]
