"""Whether a new version is good enough to be published without a person having looked."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from math import sqrt

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mining.corpus.schema import LABELLED, QUARANTINED
from mining.label_store.diff import Tally
from mining.label_store.settings import Gates
from mining.label_store.summaries import GateResult

_BINS = 1000
_SURE = 1.95  # Kolmogorov-Smirnov: chance exceeds this times sqrt((n + m) / nm) once in a thousand
_FIRST = "first version"
ALL_EMPTY = 5  # images: with half of all photos without a box, five in a row have chance 0.03
SURVEYED = ["image_id", "state", "score", "area", "width", "height"]


@dataclass
class VersionStatistics:
    """How the boxes of many images are distributed.

    states: images by state. scores, sizes: (BINS,) boxes by score, and by the square root of their share of the image.
    """

    states: dict[str, int] = field(default_factory=dict)
    scores: NDArray[np.int64] = field(default_factory=lambda: np.zeros(_BINS, np.int64))
    sizes: NDArray[np.int64] = field(default_factory=lambda: np.zeros(_BINS, np.int64))
    _last: int = -1

    def add(self, batch: pa.RecordBatch) -> None:
        """Take in rows with the columns SURVEYED; all rows of an image stand together, in one batch or the next."""
        if not len(batch):
            return
        table = pa.Table.from_batches([batch])
        ids = batch["image_id"].to_numpy()
        first, self._last = np.flatnonzero(np.diff(ids, prepend=self._last)), int(ids[-1])
        for state in batch["state"].take(pa.array(first)).to_pylist():
            self.states[state] = self.states.get(state, 0) + 1
        boxes = table.filter(table["score"].is_valid())
        sides = boxes["width"].to_numpy().astype(np.float64) * boxes["height"].to_numpy()
        self.scores += _histogram(boxes["score"].to_numpy())
        self.sizes += _histogram(np.sqrt(boxes["area"].to_numpy() / np.maximum(sides, 1)))

    @property
    def boxes(self) -> int:
        """How many."""
        return int(self.scores.sum())

    @property
    def images(self) -> int:
        """How many."""
        return sum(self.states.values())


@dataclass(frozen=True)
class Measured:
    """What the gates compare with their limits.

    new: the images that were mined now; known images that are missing are in `tally.absent`, not here. earlier:
    images of the last nights that were each too small to be judged. before: of the last version. tally: what became
    of the images. has_truth: whether the recipe names true boxes. corloc: of the new version, 0-1; drop: how far it
    lies below the last one's on the pairs of both; None where the truth has no such image.
    """

    new: VersionStatistics
    before: VersionStatistics
    tally: Tally
    earlier: VersionStatistics = field(default_factory=VersionStatistics)
    has_truth: bool = False
    corloc: float | None = None
    drop: float | None = None

    @property
    def images(self) -> int:
        """How many new images the counts are of."""
        return self.new.images + self.earlier.images


def evaluate_gates(gates: Gates, measured: Measured) -> list[GateResult]:
    """Evaluate each gate that is on; one that had nothing to measure passes, and its note says why."""
    return [
        *_counts(gates, measured),
        *_retired(gates, measured),
        *_drifts(gates, measured),
        *_corlocs(gates, measured),
    ]


def _counts(gates: Gates, measured: Measured) -> Iterator[GateResult]:
    """Compare what became of the new images with the limits: plainly, from `min_images` images on.

    Of fewer images a share says little, and the version is published with a note; the images are counted once more
    with the next night's. But a night of unusable images alone is staged, and so is one of at least ALL_EMPTY images
    that are all without a box: such a night has nothing to publish.
    """
    is_small = measured.images < gates.min_images
    small = f"too few images to judge: {measured.images} of at least {gates.min_images}" if is_small else None
    for name, limit, bad_of, least, what in (
        ("max_no_box", gates.max_no_box, _without_box, ALL_EMPTY, "without a box"),
        ("max_quarantined", gates.max_quarantined, _unusable, 1, "that cannot be used"),
    ):
        if limit is None:
            continue
        tonight, night = bad_of(measured.new)
        count, of = (a + b for a, b in zip((tonight, night), bad_of(measured.earlier), strict=True))
        meaning = f"new images {what}, {count} of {of}"
        is_all = is_small and least <= night == tonight
        if is_all:
            count, of = tonight, night
            meaning = f"new images {what}, {count} of {of}: all of this night"
        elif older := measured.earlier.images:
            meaning += f", with {older} image{'s' if older > 1 else ''} of earlier nights that were too small to judge"
        value = _share(count, of)
        passed = value is None or value <= limit or (is_small and not is_all)
        nothing = "no new images" if not measured.images else "no new image can be read"
        yield GateResult(name, value, limit, passed, meaning, nothing if value is None else small if passed else None)


def _unusable(survey: VersionStatistics) -> tuple[int, int]:
    return survey.states.get(QUARANTINED, 0), survey.images


def _without_box(survey: VersionStatistics) -> tuple[int, int]:
    readable = survey.images - survey.states.get(QUARANTINED, 0)
    return readable - survey.states.get(LABELLED, 0), readable


def _retired(gates: Gates, measured: Measured) -> Iterator[GateResult]:
    """A known image is gone where it is not listed any more, and where it is listed but its file is missing."""
    if gates.max_retired is None:
        return
    tally, known = measured.tally, measured.before.images
    gone = tally.retired + tally.absent
    value = _share(gone, known)
    meaning = f"images of the last version that are gone, {gone} of {known}"
    if tally.absent:
        meaning += f"; {tally.absent} of them listed, but missing or unreadable"
    passed = value is None or value <= gates.max_retired
    yield GateResult("max_retired", value, gates.max_retired, passed, meaning, _FIRST if value is None else None)


def _drifts(gates: Gates, measured: Measured) -> Iterator[GateResult]:
    """The limit of a drift is what is allowed and what chance alone may add with so few boxes."""
    new, before = measured.new, measured.before
    for name, allowed, mine, its, what in (
        ("max_score_drift", gates.max_score_drift, new.scores, before.scores, "scores"),
        ("max_size_drift", gates.max_size_drift, new.sizes, before.sizes, "sizes"),
    ):
        if allowed is None:
            continue
        drift, chance = distance(mine, its)
        limit = allowed + chance
        note = None
        meaning = f"distance of the new boxes' {what} from the last version's"
        if drift is None:
            note = _FIRST if not before.images else "no new boxes" if not new.boxes else "the last version has no boxes"
        else:
            meaning += f"; limit: {allowed:.3f} and {chance:.3f} that may be chance with {new.boxes} new boxes"
            if limit >= 1:
                note = f"too few boxes to judge: {min(new.boxes, before.boxes)}"
        yield GateResult(name, drift, limit, drift is None or drift <= limit, meaning, note)


def _corlocs(gates: Gates, measured: Measured) -> Iterator[GateResult]:
    if not measured.has_truth:
        return
    value, drop = measured.corloc, measured.drop
    if gates.max_corloc_drop is not None:
        nothing = _FIRST if not measured.before.images else "the truth has no image of both versions"
        yield GateResult(
            "max_corloc_drop", drop, gates.max_corloc_drop, drop is None or drop <= gates.max_corloc_drop,
            "CorLoc below the last version's, on the pairs of both", nothing if drop is None else None,
        )  # fmt: skip
    if gates.min_corloc is not None:
        yield GateResult(
            "min_corloc", value, gates.min_corloc, value is None or value >= gates.min_corloc,
            "CorLoc of the new version", "the truth has no image of this version" if value is None else None,
        )  # fmt: skip


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


def _histogram(values: NDArray[np.floating]) -> NDArray[np.int64]:
    place = np.clip((np.nan_to_num(values) * _BINS).astype(np.int64), 0, _BINS - 1)
    return np.bincount(place, minlength=_BINS)
