"""Whether a new version is good enough to be published without a person having looked."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from math import sqrt

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mining.corpus.schema import LABELLED, QUARANTINED
from mining.store.ledger import Tally
from mining.store.results import Verdict
from mining.store.settings import Gates

_BINS = 1000
_ONCE_IN_A_THOUSAND = 3.09  # standard deviations, one side
_SURE = 1.95  # Kolmogorov-Smirnov: chance exceeds this times sqrt((n + m) / nm) once in a thousand
SURVEYED = ["image_id", "state", "score", "area", "width", "height"]


@dataclass
class Survey:
    """How the boxes of many images are distributed.

    states: images by state. scores, sizes: (BINS,) boxes by score, and by the square root of their share of the image.
    """

    states: dict[str, int] = field(default_factory=dict)
    scores: NDArray[np.int64] = field(default_factory=lambda: np.zeros(_BINS, np.int64))
    sizes: NDArray[np.int64] = field(default_factory=lambda: np.zeros(_BINS, np.int64))
    _last: int = -1

    def add(self, batch: pa.RecordBatch) -> None:
        """Take in rows with the columns SURVEYED; all rows of an image stand together, in one batch or the next."""
        table = pa.Table.from_batches([batch])
        ids = batch["image_id"].to_numpy()
        first, self._last = np.flatnonzero(np.diff(ids, prepend=self._last)), int(ids[-1])
        for state in batch["state"].take(pa.array(first)).to_pylist():
            self.states[state] = self.states.get(state, 0) + 1
        boxes = table.filter(table["score"].is_valid())
        sides = boxes["width"].to_numpy().astype(np.float64) * boxes["height"].to_numpy()
        self.scores += _histogram(boxes["score"].to_numpy())
        self.sizes += _histogram(np.sqrt(boxes["area"].to_numpy() / np.maximum(sides, 1)))

    @classmethod
    def of(cls, batches: Iterable[pa.RecordBatch]) -> "Survey":
        """Of all rows."""
        survey = cls()
        for batch in batches:
            if len(batch):
                survey.add(batch)
        return survey

    @property
    def boxes(self) -> int:
        """How many."""
        return int(self.scores.sum())

    @property
    def images(self) -> int:
        """How many."""
        return sum(self.states.values())


def judge(
    gates: Gates, new: Survey, before: Survey, tally: Tally, corloc: float | None, drop: float | None
) -> list[Verdict]:
    """What each gate that is on says.

    new: of the images that are mined now. before: of the last version. corloc: of the new version, 0-1, where there
    is truth; drop: how far it lies below the last one's on the pairs of both.
    """
    unusable = new.states.get(QUARANTINED, 0)
    readable = new.images - unusable
    without = readable - new.states.get(LABELLED, 0)
    verdicts = [
        Verdict(name, _share(count, of), limit, _lowest(count, of) <= limit, f"new images {what}, {count} of {of}")
        for name, limit, count, of, what in (
            ("max_no_box", gates.max_no_box, without, readable, "without a box"),
            ("max_quarantined", gates.max_quarantined, unusable, new.images, "that cannot be used"),
        )
        if limit is not None
    ]
    verdicts += [
        Verdict(name, value, limit, value is None or value <= limit, meaning)
        for name, value, limit, meaning in (
            ("max_retired", _share(tally.retired, before.images), gates.max_retired, "the last version's images gone"),
            ("max_corloc_drop", drop, gates.max_corloc_drop, "CorLoc below the last version's, on the pairs of both"),
        )
        if limit is not None
    ]
    for name, limit, mine, its, what in (
        ("max_score_drift", gates.max_score_drift, new.scores, before.scores, "scores"),
        ("max_size_drift", gates.max_size_drift, new.sizes, before.sizes, "sizes"),
    ):
        if limit is not None:
            drift, chance = distance(mine, its)
            meaning = f"distance of the new boxes' {what} from the last version's; {chance:.2f} more may be chance"
            verdicts.append(Verdict(name, drift, limit, drift is None or drift <= limit + chance, meaning))
    if gates.min_corloc is not None:
        good = corloc is None or corloc >= gates.min_corloc
        verdicts.append(Verdict("min_corloc", corloc, gates.min_corloc, good, "CorLoc of the new version"))
    return verdicts


def distance(first: NDArray[np.int64], second: NDArray[np.int64]) -> tuple[float | None, float]:
    """Largest distance of the cumulative distributions of two histograms, 0-1, and how much of it may be chance.

    None where one of them is empty. Kolmogorov-Smirnov's two-sample statistic, to a thousandth of the range.
    """
    n, m = int(first.sum()), int(second.sum())
    if not n or not m:
        return None, 0.0
    apart = np.abs(np.cumsum(first) / n - np.cumsum(second) / m).max()
    return float(apart), _SURE * sqrt((n + m) / (n * m))


def _share(count: int, of: int) -> float | None:
    return count / of if of else None


def _lowest(count: int, of: int) -> float:
    """The share that chance alone would lift to `count` of `of` once in a thousand: Wilson's lower bound."""
    if not of:
        return 0.0
    share, z2 = count / of, _ONCE_IN_A_THOUSAND**2
    spread = _ONCE_IN_A_THOUSAND * sqrt(share * (1 - share) / of + z2 / (4 * of**2))
    return (share + z2 / (2 * of) - spread) / (1 + z2 / of)


def _histogram(values: NDArray[np.floating]) -> NDArray[np.int64]:
    place = np.clip((np.nan_to_num(values) * _BINS).astype(np.int64), 0, _BINS - 1)
    return np.bincount(place, minlength=_BINS)
