"""Whether the signals of a run are distributed as those that a calibration was made from."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mining.arrays import Floats
from mining.quality.features import FEATURES

BINS = 10
MAX_STABILITY_INDEX = 0.25
MAX_MOVED = 2
MIN_BOXES = 20


@dataclass(frozen=True)
class Drift:
    """What a comparison of two distributions found.

    Attributes:
        index: Population stability index by feature, without what chance alone gives.
        moved: Features whose index is above MAX_STABILITY_INDEX, farthest first.
    """

    index: dict[str, float]
    moved: tuple[str, ...]

    @property
    def is_refused(self) -> bool:
        """Whether so many features have moved that a calibration must not be used: more than MAX_MOVED."""
        return len(self.moved) > MAX_MOVED

    def describe(self) -> str:
        """Name the features that moved farthest, each with its index."""
        named = ", ".join(f"{name} ({self.index[name]:.2f})" for name in self.moved[:3])
        return named + (f" and {len(self.moved) - 3} more" if len(self.moved) > 3 else "")


@dataclass(frozen=True)
class Distribution:
    """Histogram of each of F features, with the nulls as a bin of their own.

    Attributes:
        boxes: Number of boxes that were counted.
        edges: For each feature its inner bin edges, ascending.
        shares: For each feature the share of the boxes in each bin, of nulls last.
    """

    boxes: int
    edges: tuple[Floats, ...]
    shares: tuple[Floats, ...]

    @classmethod
    def fit(cls, raw: Floats) -> "Distribution":
        """Count (n, F) raw features in bins of equally many boxes; equal values are never split."""
        edges = tuple(_inner_edges(column) for column in raw.T)
        shares = tuple(_shares(column, edge) for column, edge in zip(raw.T, edges, strict=True))
        return cls(len(raw), edges, shares)

    def compare(self, raw: Floats) -> Drift:
        """Compare other boxes' (m, F) raw features by the population stability index, sum of (q - p) log(q / p).

        By chance alone the index is about (bins - 1) (1/n + 1/m), which is subtracted.
        """
        index = {}
        for feature, column, edge, before in zip(FEATURES, raw.T, self.edges, self.shares, strict=True):
            chance = (len(before) - 1) * (1 / max(self.boxes, 1) + 1 / max(len(raw), 1))
            index[feature.name] = max(0.0, stability_index(before, _shares(column, edge), len(raw)) - chance)
        moved = sorted((name for name in index if index[name] > MAX_STABILITY_INDEX), key=lambda name: -index[name])
        return Drift(index, tuple(moved))

    def to_json(self) -> dict[str, Any]:
        """Return a JSON-like value."""
        lists: dict[str, Sequence[Floats]] = {"edges": self.edges, "shares": self.shares}
        return {"boxes": self.boxes, **{name: [one.tolist() for one in arrays] for name, arrays in lists.items()}}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> "Distribution":
        """Read what `to_json` returned; ValueError where the lengths do not fit."""
        edges, shares = (tuple(np.array(one, np.float64) for one in content[name]) for name in ("edges", "shares"))
        if len(edges) != len(FEATURES) or [len(one) + 2 for one in edges] != [len(one) for one in shares]:
            raise ValueError("its distribution is not that of this version's features")
        return cls(int(content["boxes"]), edges, shares)


def _inner_edges(column: Floats) -> Floats:
    known = column[np.isfinite(column)]
    return np.unique(np.quantile(known, np.arange(1, BINS) / BINS)) if len(known) else np.empty(0)


def _shares(column: Floats, edges: Floats) -> Floats:
    known = column[np.isfinite(column)]
    counts = np.bincount(np.searchsorted(edges, known, "left"), minlength=len(edges) + 1)
    return np.append(counts, len(column) - len(known)) / max(len(column), 1)


def stability_index(before: Floats, after: Floats, boxes: int) -> float:
    """Compute the population stability index, sum of (q - p) log(q / p), of two distributions over the same bins.

    Args:
        before: (bins,) shares, which sum to 1.
        after: (bins,) the same of what is compared with them.
        boxes: Number of boxes behind `after`: an empty bin counts as half a box of them.
    """
    floor = 0.5 / max(boxes, 1)
    p, q = np.maximum(before, floor), np.maximum(after, floor)
    return float(((q - p) * np.log(q / p)).sum())
