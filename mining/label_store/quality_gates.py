"""Quality gates: is a new version good enough to be published without a decision by a person?"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from math import sqrt

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from mining.corpus.schema import LABELLED, NO_BOX, QUARANTINED
from mining.label_store.diff import Tally
from mining.label_store.settings import Gates
from mining.label_store.summaries import GateResult
from mining.label_store.version_precision import VersionPrecision
from mining.quality.applying import HUMAN

_BINS = 1000
# Kolmogorov-Smirnov: for equal distributions the distance exceeds this times sqrt((n + m) / nm) once in a thousand
_KS_FACTOR = 1.95
_FIRST = "first version"
_ROUNDING = 1e-9  # of a precision that is known exactly because every box is judged
MIN_IMAGES_ALL_EMPTY = 5  # if half of all images have no box, five in a row have none with probability 0.03
STATISTICS_COLUMNS = ["image_id", "state", "score", "area", "width", "height", "source"]


@dataclass
class VersionStatistics:
    """States of images, and distributions of their boxes.

    Attributes:
        states: Number of images by state.
        scores: (1000,) histogram of the mined boxes' scores, in [0, 1].
        sizes: (1000,) histogram of the square root of the mined boxes' share of the image area, in [0, 1].
        human: Number of boxes that people made.
    """

    states: dict[str, int] = field(default_factory=dict)
    scores: NDArray[np.int64] = field(default_factory=lambda: np.zeros(_BINS, np.int64))
    sizes: NDArray[np.int64] = field(default_factory=lambda: np.zeros(_BINS, np.int64))
    human: int = 0
    _last_id: int = -1

    def add(self, batch: pa.RecordBatch) -> None:
        """Add rows with the columns STATISTICS_COLUMNS; the rows of an image follow each other."""
        if not len(batch):
            return
        table = pa.Table.from_batches([batch])
        ids = batch["image_id"].to_numpy()
        first, self._last_id = np.flatnonzero(np.diff(ids, prepend=self._last_id)), int(ids[-1])
        for state in batch["state"].take(pa.array(first)).to_pylist():
            self.states[state] = self.states.get(state, 0) + 1
        boxes = table.filter(table["score"].is_valid())
        is_human = pc.equal(boxes["source"], HUMAN)
        self.human += pc.sum(is_human).as_py() or 0
        boxes = boxes.filter(pc.invert(is_human))
        sides = boxes["width"].to_numpy().astype(np.float64) * boxes["height"].to_numpy()
        self.scores += _histogram(boxes["score"].to_numpy())
        self.sizes += _histogram(np.sqrt(boxes["area"].to_numpy() / np.maximum(sides, 1)))

    @property
    def boxes(self) -> int:
        """Number of mined boxes."""
        return int(self.scores.sum())

    @property
    def images(self) -> int:
        """Number of images."""
        return sum(self.states.values())


@dataclass(frozen=True)
class Measurements:
    """What the gates compare with their limits.

    Attributes:
        new: The newly mined images; known images whose file is missing are counted in `tally.absent` instead.
        before: The last version.
        tally: The comparison of the listing with the last version.
        earlier: Images of earlier nights that were each too few to be judged.
        has_truth: Whether the recipe names ground truth.
        corloc: CorLoc of the new version, in [0, 1]; None if no image of the ground truth is in it.
        drop: By how much CorLoc is lower than in the last version, on the pairs of both; None if there is no such pair.
        precision: Precision of the new boxes by verdicts of people; None if no box was mined or judged.
    """

    new: VersionStatistics
    before: VersionStatistics
    tally: Tally
    earlier: VersionStatistics = field(default_factory=VersionStatistics)
    has_truth: bool = False
    corloc: float | None = None
    drop: float | None = None
    precision: VersionPrecision | None = None

    @property
    def images(self) -> int:
        """Number of new images that the counts are based on."""
        return self.new.images + self.earlier.images


def evaluate_gates(gates: Gates, measured: Measurements) -> list[GateResult]:
    """Evaluate the gates that are on; a gate that has nothing to measure passes, and its note says why."""
    return [
        *_count_gates(gates, measured),
        *_retired_gate(gates, measured),
        *_drift_gates(gates, measured),
        *_corloc_gates(gates, measured),
        *_precision_gate(gates, measured.precision),
    ]


def _count_gates(gates: Gates, measured: Measurements) -> Iterator[GateResult]:
    """Compare the shares of images without a box and of unusable images with their limits.

    Below `min_images` images a share means little: the version is published with a note, and the images are counted
    again with those of the next night. There is one exception, because such a night has nothing to publish: a night of
    unusable images only is staged, and so is a night of at least MIN_IMAGES_ALL_EMPTY images that all have no box.
    """
    is_small = measured.images < gates.min_images
    small = f"too few images to judge: {measured.images} of at least {gates.min_images}" if is_small else None
    for name, limit, count_bad, min_bad, what in (
        ("max_no_box", gates.max_no_box, _count_without_box, MIN_IMAGES_ALL_EMPTY, "without a box"),
        ("max_quarantined", gates.max_quarantined, _count_unusable, 1, "that cannot be used"),
    ):
        if limit is None:
            continue
        bad_tonight, tonight = count_bad(measured.new)
        bad, total = (new + old for new, old in zip((bad_tonight, tonight), count_bad(measured.earlier), strict=True))
        meaning = f"new images {what}, {bad} of {total}"
        is_all = is_small and min_bad <= tonight == bad_tonight
        if is_all:
            bad, total = bad_tonight, tonight
            meaning = f"new images {what}, {bad} of {total}: all of this night"
        elif older := measured.earlier.images:
            meaning += f", with {older} image{'s' if older > 1 else ''} of earlier nights that were too small to judge"
        value = _share(bad, total)
        passed = value is None or value <= limit or (is_small and not is_all)
        nothing = "no new images" if not measured.images else "no new image can be read"
        yield GateResult(name, value, limit, passed, meaning, nothing if value is None else small if passed else None)


def _count_unusable(statistics: VersionStatistics) -> tuple[int, int]:
    """Unusable images, and all images."""
    return statistics.states.get(QUARANTINED, 0), statistics.images


def _count_without_box(statistics: VersionStatistics) -> tuple[int, int]:
    """Images without a box, and all readable images."""
    readable = statistics.images - statistics.states.get(QUARANTINED, 0)
    with_box = statistics.states.get(LABELLED, 0) + statistics.states.get(NO_BOX, 0)  # those that people rejected
    return readable - with_box, readable


def _retired_gate(gates: Gates, measured: Measurements) -> Iterator[GateResult]:
    """A known image is gone if it is not listed any more, and if it is listed but its file is missing."""
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


def _drift_gates(gates: Gates, measured: Measurements) -> Iterator[GateResult]:
    """The limit of a drift is the setting plus what chance alone may add for so few boxes."""
    new, before = measured.new, measured.before
    for name, allowed, new_histogram, histogram_before, what in (
        ("max_score_drift", gates.max_score_drift, new.scores, before.scores, "scores"),
        ("max_size_drift", gates.max_size_drift, new.sizes, before.sizes, "sizes"),
    ):
        if allowed is None:
            continue
        drift, chance = ks_distance(new_histogram, histogram_before)
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


def _corloc_gates(gates: Gates, measured: Measurements) -> Iterator[GateResult]:
    if not measured.has_truth:
        return
    value, drop = measured.corloc, measured.drop
    if gates.max_corloc_drop is not None:
        nothing = _FIRST if not measured.before.images else "the ground truth has no image of both versions"
        yield GateResult(
            "max_corloc_drop", drop, gates.max_corloc_drop, drop is None or drop <= gates.max_corloc_drop,
            "CorLoc below the last version's, on the pairs of both", nothing if drop is None else None,
        )  # fmt: skip
    if gates.min_corloc is not None:
        yield GateResult(
            "min_corloc", value, gates.min_corloc, value is None or value >= gates.min_corloc,
            "CorLoc of the new version", "the ground truth has no image of this version" if value is None else None,
        )  # fmt: skip


def _precision_gate(gates: Gates, found: VersionPrecision | None) -> Iterator[GateResult]:
    if gates.min_precision is None:
        return
    meaning = "lower end of the 95 % interval of the new boxes' precision"
    if found is None or not found.boxes:
        yield GateResult("min_precision", None, gates.min_precision, True, meaning, "no new boxes")
        return
    low = found.ci95[0]
    passed = low >= gates.min_precision - _ROUNDING
    if found.value is None:
        meaning += f"; none of the {found.boxes} new boxes has a verdict that counts"
        yield GateResult("min_precision", None, gates.min_precision, passed, meaning, "no verdicts")
        return
    meaning += f", {found.value:.3f} by {found.verdicts} verdicts on {found.boxes} boxes"
    if found.unknown:
        meaning += f"; {found.unknown} boxes of runs with too few verdicts count as wrong"
    yield GateResult("min_precision", low, gates.min_precision, passed, meaning)


def ks_distance(first: NDArray[np.int64], second: NDArray[np.int64]) -> tuple[float | None, float]:
    """Return the largest distance of two cumulative distributions, and how much of it may be chance.

    Args:
        first: (n,) histogram.
        second: (n,) histogram with the same bins.

    Returns:
        The distance in [0, 1], None if a histogram is empty; and what equal distributions exceed once in a thousand.

    Reference:
        Two-sample Kolmogorov-Smirnov statistic, to the resolution of the histograms.
    """
    n, m = int(first.sum()), int(second.sum())
    if not n or not m:
        return None, 0.0
    distance = np.abs(np.cumsum(first) / n - np.cumsum(second) / m).max()
    return float(distance), _KS_FACTOR * sqrt((n + m) / (n * m))


def _share(count: int, total: int) -> float | None:
    return count / total if total else None


def _histogram(values: NDArray[np.floating]) -> NDArray[np.int64]:
    bins = np.clip((np.nan_to_num(values) * _BINS).astype(np.int64), 0, _BINS - 1)
    return np.bincount(bins, minlength=_BINS)
