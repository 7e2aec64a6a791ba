"""The number of objects in a corpus and the share of them that a run found, from images that were looked at whole.

Both are stratified estimates: the mean of each stratum's images, weighted by its number of images (Cochran, Sampling
Techniques, 3rd edition 1977, chapter 5). That is, each image counts by the inverse of the probability with which it was
drawn. The share found is a combined ratio (chapter 6.11). The interval of the number is Student's with Satterthwaite's
degrees of freedom (chapter 5.4), on the logarithm, because counts are skewed; it never starts below the objects that
were counted. The interval of the share is Wilson's for the number of independent objects that would give the same
variance.
"""

import math
from dataclasses import dataclass

import numpy as np
from scipy.stats import t as student

from mining.arrays import Floats, Ints
from mining.quality.estimates import ALPHA, VERDICTS_PER_GAIN, Z, wilson
from mining.quality.image_sampling import stratify_images

FEWEST_IMAGES = 5
# as many further images, of the spread that all have in common, count for the spread of each stratum: that of few
# images is uncertain, and the rare image with very many objects is mostly not among them
PRIOR_IMAGES = 3.0


@dataclass(frozen=True)
class Objects:
    """Estimates over all images of a run.

    Attributes:
        value: Number of objects.
        ci95: Its interval, for a number of images that was fixed beforehand.
        recall: Share of the objects with a correct box; None where no object was seen.
        recall_ci95: Its interval, likewise.
        seen: Number of objects in the images that were looked at.
        images: Number of images that were looked at.
        of_images: Number of images of the run.
    """

    value: float
    ci95: tuple[float, float]
    recall: float | None
    recall_ci95: tuple[float, float] | None
    seen: float
    images: int
    of_images: int


def estimate_objects(boxes: Ints, looked_at: Ints, objects: Floats, found: Floats) -> Objects | None:
    """Estimate the number of objects and the share of them that was found.

    Args:
        boxes: (N,) number of mined boxes of each image of the run.
        looked_at: (n,) places of the images that were looked at, drawn at random in each stratum of `stratify_images`.
        objects: (n,) number of objects in each of them.
        found: (n,) number of these that have a correct box.

    Returns:
        None with fewer than FEWEST_IMAGES images.
    """
    if len(looked_at) < min(FEWEST_IMAGES, len(boxes)) or not len(boxes):
        return None
    strata = _Strata.of(boxes, looked_at)
    total, variance, freedom = strata.sum_of(objects)
    seen, share_seen = float(objects.sum()), len(looked_at) / len(boxes)
    # images that all have as many objects seem surer than they are: at least as if one of them had one more
    variance = max(variance, len(boxes) ** 2 * (1 - share_seen) / len(looked_at) / (len(looked_at) + 1))
    weight = float((strata.images / strata.looked_at).max())
    low, high = _interval_of_total(total, variance, freedom, seen, weight, is_all=share_seen == 1)
    recall = strata.sum_of(found)[0] / total if total > 0 else None
    recall_ci95 = None
    if recall is not None:
        _, residual, freedom = strata.sum_of(found - recall * objects)
        recall_ci95 = _interval_of_share(recall, residual / total**2, _quantile(freedom), seen, found.sum(), share_seen)
    return Objects(total, (low, high), recall, recall_ci95, seen, len(looked_at), len(boxes))


@dataclass(frozen=True)
class _Strata:
    """The H strata of a draw.

    Attributes:
        images: (H,) number of images.
        looked_at: (H,) number of those that were looked at.
        scale: (H,) expected spread of an image's count, up to a factor: it grows less than the number of boxes.
        members: Their places among the images that were looked at.
    """

    images: Floats
    looked_at: Floats
    scale: Floats
    members: list[Ints]

    @classmethod
    def of(cls, boxes: Ints, looked_at: Ints) -> "_Strata":
        strata = _with_enough(stratify_images(boxes), looked_at)
        images = np.bincount(strata).astype(np.float64)
        members = [np.flatnonzero(strata[looked_at] == one) for one in range(len(images))]
        scale = np.sqrt(np.bincount(strata, weights=boxes + 1.0) / images)
        return cls(images, np.array([len(some) for some in members], np.float64), scale, members)

    def sum_of(self, values: Floats) -> tuple[float, float, float]:
        """Estimate the sum of the images' values over all images, its variance and the degrees of freedom of that."""
        means = np.array([values[some].mean() for some in self.members])
        squares = np.array([((values[some] - values[some].mean()) ** 2).sum() for some in self.members])
        is_open = self.looked_at < self.images
        common = (squares / self.scale)[is_open].sum() / max(1.0, (self.looked_at - 1)[is_open].sum())
        freedom = self.looked_at - 1 + PRIOR_IMAGES
        spread = (squares + PRIOR_IMAGES * common * self.scale) / freedom
        parts = self.images**2 * (1 - self.looked_at / self.images) * spread / self.looked_at
        variance, weight = float(parts.sum()), float((parts**2 / freedom).sum())
        return float((self.images * means).sum()), variance, (variance**2 / weight if weight else math.inf)


def _with_enough(strata: Ints, looked_at: Ints) -> Ints:
    """Merge strata of which fewer than two images were looked at, and not all, with the next one."""
    merged = strata.copy()
    while True:
        images = np.bincount(merged)
        done = np.bincount(merged[looked_at], minlength=len(images))
        few = np.flatnonzero((done < 2) & (done < images))
        if not len(few) or len(images) == 1:
            return merged
        one = int(few[0])
        merged[merged == one] = one + 1 if one + 1 < len(images) else one - 1
        merged = np.unique(merged, return_inverse=True)[1]


def _interval_of_total(
    total: float, variance: float, freedom: float, seen: float, weight: float, *, is_all: bool
) -> tuple[float, float]:
    """The interval of a number of objects, of which `seen` were counted; each image stands for at most `weight`."""
    if is_all:
        return total, total
    if total <= 0:
        return 0.0, -math.log(ALPHA / 2) * weight  # the exact upper end of a Poisson mean when nothing was seen
    factor = math.exp(_quantile(freedom) * math.sqrt(variance) / total)
    return max(seen, total / factor), max(seen, total * factor)


def _interval_of_share(
    value: float, variance: float, quantile: float, seen: float, found: float, share_seen: float
) -> tuple[float, float]:
    """The interval of the share of `seen` objects that were found, in a share of all images."""
    # of objects that nearly all were found, or nearly none, few images seem surer than they are
    inner = min(max(value, 0.5 / seen), 1 - 0.5 / seen)
    simple = inner * (1 - inner) / seen * (1 - share_seen)
    variance = max(variance, simple / (1 + min(found, seen - found) / VERDICTS_PER_GAIN))
    return wilson(value, variance, max(1, round(seen)), quantile)


def _quantile(freedom: float) -> float:
    return float(student.ppf(1 - ALPHA / 2, freedom)) if math.isfinite(freedom) else Z
