"""Two runs on the same photos: is one better, or were the photos kind to it?"""

from dataclasses import dataclass

import numpy as np

from mining.arrays import Floats, Ints
from mining.evaluation.metrics.corloc import drawn_counts


@dataclass(frozen=True)
class PairedDifference:
    """value: mean over pairs of what the second has over the first. ci95: percentile bootstrap over images."""

    value: float
    ci95: tuple[float, float]

    @property
    def is_clear(self) -> bool:
        """Whether the interval leaves out 0."""
        return self.ci95[0] > 0 or self.ci95[1] < 0


def paired_difference(
    image: Ints, first: Floats, second: Floats, *, seed: int = 0, resamples: int = 2000
) -> PairedDifference:
    """Compare two verdicts on the same P pairs of image and class, P >= 1.

    image: (P,) int, whose pair it is; all pairs of an image are drawn together. first, second: (P,) verdicts, of one
    seed 0 or 1, of several their mean.
    """
    images, of_pair = np.unique(image, return_inverse=True)
    gain = np.bincount(of_pair, weights=second - first)
    size = np.bincount(of_pair)
    rng = np.random.default_rng(seed)
    means = np.concatenate(
        [(drawn @ gain) / (drawn @ size) for drawn in drawn_counts(rng, resamples, len(images), len(image))]
    )
    low, high = np.percentile(means, [2.5, 97.5])
    return PairedDifference(float(gain.sum() / size.sum()), (float(low), float(high)))
