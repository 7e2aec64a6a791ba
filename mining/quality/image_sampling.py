"""Random draws of images for a person to look at whole, more often those with many mined boxes.

Images are divided into strata by their number of mined boxes. Each stratum gets draws in proportion to the sum over its
images of (boxes + 1) to the power of 1.5: where there are many boxes, there are many objects to be counted, and counts
differ most. Strata depend on the run alone, so that the images of a second plan are drawn from the same ones.
"""

import numpy as np

from mining.arrays import Floats, Ints

FEWEST_PER_STRATUM = 2  # images that have to be drawn, or the whole stratum: their spread gives the interval
MOST_STRATA = 6
GROWTH = 1.5  # of the probability with the number of boxes; with 1, the spread of voc-mini's estimate is a ninth larger


def stratify_images(boxes: Ints) -> Ints:
    """Divide images into strata by their number of mined boxes.

    Args:
        boxes: (N,) number of mined boxes of each image.

    Returns:
        (N,) int64 numbers of the strata, ascending with the number of boxes, from 0 without gaps. Each has about the
        same sum of boxes plus one, and images with as many boxes are in the same stratum.
    """
    if not len(boxes):
        return np.zeros(0, np.int64)
    values, counts = np.unique(boxes, return_counts=True)
    size = (values + 1) * counts
    # of the middle of each number of boxes, on the line of all sizes
    middle = (np.cumsum(size) - size / 2) / size.sum()
    piece = np.minimum((middle * MOST_STRATA).astype(np.int64), MOST_STRATA - 1)
    return np.unique(piece, return_inverse=True)[1][np.searchsorted(values, boxes)]


def draws_per_stratum(boxes: Ints, strata: Ints, draws: int) -> Ints:
    """Compute how many images of each stratum are to be drawn in all.

    Args:
        boxes: (N,) number of mined boxes of each image.
        strata: (N,) numbers of the strata, see `stratify_images`.
        draws: How many images are to be drawn in all.

    Returns:
        (H,) int64; at least FEWEST_PER_STRATUM of each stratum, or all of its images.
    """
    images = np.bincount(strata)
    shares = np.bincount(strata, weights=(boxes + 1.0) ** GROWTH)
    found = np.minimum(images, FEWEST_PER_STRATUM)
    while (left := draws - found.sum()) > 0 and (is_open := found < images).any():
        wanted = np.maximum(draws * shares / shares.sum() - found, 0) * is_open
        wanted = wanted if wanted.sum() else shares * is_open
        step = np.floor(wanted * min(1.0, left / wanted.sum())).astype(np.int64)
        if not step.any():
            step[np.argmax(wanted)] = 1
        found = np.minimum(found + step, images)
    return found


def draw_images(strata: Ints, wanted: Ints, before: Ints, random: np.random.Generator) -> Ints:
    """Draw images without replacement, each of a stratum with the same probability.

    Args:
        strata: (N,) numbers of the strata.
        wanted: (H,) how many of each stratum are to be drawn in all.
        before: Places of the images that were drawn before.
        random: Source of randomness.

    Returns:
        Places of the drawn images, in random order, so that the first ones are a random draw of each stratum too.
    """
    drawn = []
    done = np.bincount(strata[before], minlength=len(wanted))
    for stratum, count in enumerate(np.maximum(wanted - done, 0)):
        left = np.setdiff1d(np.flatnonzero(strata == stratum), before)
        drawn.append(random.choice(left, count, replace=False))
    return random.permutation(np.concatenate(drawn)) if drawn else np.zeros(0, np.int64)


def inclusion_probabilities(strata: Ints, drawn: Ints) -> Floats:
    """(N,) share of each image's stratum that was drawn.

    Args:
        strata: (N,) numbers of the strata.
        drawn: Places of all images that were drawn.
    """
    images = np.bincount(strata)
    return (np.bincount(strata[drawn], minlength=len(images)) / images)[strata]
