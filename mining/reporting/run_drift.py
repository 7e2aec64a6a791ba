"""How the boxes of a run are distributed, compared with an earlier run: is a difference larger than chance?

Images are the units that vary independently: the boxes of one image are alike. A share of boxes is a ratio of two sums
over images, and its variance is that of a ratio (linearised). All comparisons share an error rate of 5 % (Bonferroni).
Two runs of the same images vary together, so that their differences are smaller by chance than is assumed here.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np

from mining.corpus.schema import PENDING, QUARANTINED
from mining.quality.drift import MAX_STABILITY_INDEX, stability_index
from mining.reporting.statistics import CELLS, ClassStatistics, RunStatistics, quantile

ERROR_RATE = 0.05
FEWEST_IMAGES = 30  # with a box, in each run
_PSI_BINS = 10


@dataclass(frozen=True)
class Change:
    """One figure of both runs.

    Attributes:
        name: What is compared.
        before: In the earlier run.
        after: In this run.
        by_chance: By how much they may differ by chance, all comparisons taken together; None with too few images.
        is_share: Whether it is a share of 0-1.
    """

    name: str
    before: float
    after: float
    by_chance: float | None
    is_share: bool

    @property
    def is_clear(self) -> bool:
        """Whether the difference is larger than chance."""
        return self.by_chance is not None and abs(self.after - self.before) > self.by_chance

    def format(self, value: float, *, sign: bool = False) -> str:
        """Write a value, or with `sign` a difference, as the page does."""
        plus = "+" if sign else ""
        if not self.is_share:
            return f"{value:{plus}.2f}".replace("-", "\N{MINUS SIGN}")
        return f"{100 * value:{plus}.1f}".replace("-", "\N{MINUS SIGN}") + ("" if sign else " %")


@dataclass(frozen=True)
class Drift:
    """A run compared with an earlier one.

    Attributes:
        figures: Share of images without a box, boxes per image.
        classes: Shares of the boxes by class, largest difference first.
        medians: Median score before and after.
        scores_moved: Whether the scores are distributed otherwise than by chance.
        index: Population stability index of the scores, without what chance alone gives.
        per_image: (number of boxes, share of the images before, after) of the mined images.
        comparisons: How many were made.
        has_enough: Whether both runs have enough images to say what chance does.
    """

    figures: list[Change]
    classes: list[Change]
    medians: tuple[float, float]
    scores_moved: bool
    index: float
    per_image: list[tuple[str, float, float]]
    comparisons: int
    has_enough: bool

    @property
    def sentence(self) -> str:
        """Say which differences are larger than chance."""
        if not self.has_enough:
            return f"Fewer than {FEWEST_IMAGES} images have a box in one of the runs: too few to say what chance does."
        clear = [_describe(one) for one in self.figures if one.is_clear]
        if self.scores_moved:
            clear.append(f"scores, {self._describe_scores()}")
        classes = [one for one in self.classes if one.is_clear]
        clear += [f"share of {_describe(one)}" for one in classes[:3]]
        more = f"; and the shares of {len(classes) - 3} more classes" if len(classes) > 3 else ""
        if not clear:
            return "No difference is larger than chance explains."
        return f"Larger than chance explains: {'; '.join(clear)}{more}."

    def _describe_scores(self) -> str:
        before, after = self.medians
        size = "large" if self.index > MAX_STABILITY_INDEX else "moderate" if self.index > 0.1 else "small"
        return f"median {before:.2f} before and {after:.2f} now, a {size} shift (stability index {self.index:.2f})"


def compare_statistics(
    before: RunStatistics, after: RunStatistics, images_before: Mapping[str, int], images_after: Mapping[str, int]
) -> Drift:
    """Compare the boxes of two runs.

    Args:
        before: Counts of the earlier run.
        after: Counts of this run.
        images_before: Number of images by state in the earlier run.
        images_after: The same of this run.
    """
    mined = _mined(images_before), _mined(images_after)
    names = sorted({*before.of_class, *after.of_class})
    steps = len(before.below_squares) - 1
    comparisons = 2 + steps + len(names)
    has_enough = min(before.images, after.images) >= FEWEST_IMAGES
    z = NormalDist().inv_cdf(1 - ERROR_RATE / comparisons / 2)

    def change(name: str, of: Callable[[RunStatistics, int], tuple[float, float]], *, is_share: bool) -> Change:
        (first, variance), (second, other) = (of(*one) for one in zip((before, after), mined, strict=True))
        chance = z * math.sqrt(variance + other) if has_enough else None
        return Change(name, first, second, chance, is_share)

    figures = [
        change("images without a box", _unboxed_share, is_share=True),
        change("boxes per image", _boxes_per_image, is_share=False),
    ]
    classes = [change(name, _class_share(name), is_share=True) for name in names]
    below = [change("", _share_below(step), is_share=True) for step in range(steps)]
    return Drift(
        figures, sorted(classes, key=lambda one: (-abs(one.after - one.before), one.name)),
        (quantile(before.scores, 0.5), quantile(after.scores, 0.5)), any(one.is_clear for one in below),
        _score_index(before, after), _per_image(before, after, mined), comparisons, has_enough,
    )  # fmt: skip


def _describe(one: Change) -> str:
    return f"{one.name}, {one.format(one.before)} before and {one.format(one.after)} now"


def _mined(states: Mapping[str, int]) -> int:
    return sum(number for state, number in states.items() if state not in (QUARANTINED, PENDING))


def _unboxed_share(counts: RunStatistics, images: int) -> tuple[float, float]:
    """Share of the images, and its variance with one more image of each kind, so that it is never 0."""
    unboxed = max(0, images - counts.images)
    smooth = (unboxed + 1) / (images + 2)
    return unboxed / max(images, 1), smooth * (1 - smooth) / (images + 2)


def _boxes_per_image(counts: RunStatistics, images: int) -> tuple[float, float]:
    images = max(images, 1)
    mean = counts.boxes / images
    return mean, max(0.0, counts.squares / images - mean**2) / images


def _class_share(name: str) -> Callable[[RunStatistics, int], tuple[float, float]]:
    def share(counts: RunStatistics, _: int) -> tuple[float, float]:
        one = counts.of_class.get(name, ClassStatistics())
        return _ratio(one.boxes, one.squares, one.products, counts)

    return share


def _share_below(step: int) -> Callable[[RunStatistics, int], tuple[float, float]]:
    def share(counts: RunStatistics, _: int) -> tuple[float, float]:
        below = int(counts.scores[: (step + 1) * CELLS // len(counts.below_squares)].sum())
        return _ratio(below, int(counts.below_squares[step]), int(counts.below_products[step]), counts)

    return share


def _ratio(part: int, squares: int, products: int, counts: RunStatistics) -> tuple[float, float]:
    """Share of the boxes that some are, and its variance: sum over images of (part - share * boxes)^2 / boxes^2."""
    boxes = max(counts.boxes, 1)
    share = part / boxes
    return share, max(0.0, squares - 2 * share * products + share**2 * counts.squares) / boxes**2


def _score_index(before: RunStatistics, after: RunStatistics) -> float:
    if not before.boxes or not after.boxes:
        return 0.0
    shares = [one.scores.reshape(_PSI_BINS, -1).sum(axis=1) / one.boxes for one in (before, after)]
    chance = (_PSI_BINS - 1) * (1 / before.boxes + 1 / after.boxes)
    return max(0.0, stability_index(np.asarray(shares[0]), np.asarray(shares[1]), after.boxes) - chance)


def _per_image(before: RunStatistics, after: RunStatistics, mined: tuple[int, int]) -> list[tuple[str, float, float]]:
    shares: list[Any] = []
    for counts, images in zip((before, after), mined, strict=True):
        numbers = counts.per_image.copy()
        numbers[0] = max(0, images - counts.images)
        shares.append(numbers / max(images, 1))
    names = [*map(str, range(len(shares[0]) - 1)), f"{len(shares[0]) - 1} or more"]
    return [(name, float(first), float(second)) for name, first, second in zip(names, *shares, strict=True)]
