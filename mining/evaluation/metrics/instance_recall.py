"""Recall of true boxes at a number of false positives per image: a point of the FROC curve."""

import numpy as np

from mining.arrays import Bools, Floats, Ints
from mining.boxes.iou import paired_iou
from mining.evaluation.bootstrap import affordable, percentile_interval, resample_image_counts
from mining.evaluation.boxes import Detections, Overlaps, TruthBoxes, candidate_pairs, compute_overlaps
from mining.evaluation.metrics.hits import IOU_THRESHOLD


class InstanceRecall:
    """Which true boxes are found from which score on, and which boxes are false, for recall at any resample of images.

    A countable true box is found by a box of its class that covers it with IoU >= 0.5.

    Args:
        truth: True boxes.
        predicted: Predicted boxes.
        overlaps: `compute_overlaps(truth, predicted)`, where it is known already.
    """

    def __init__(self, truth: TruthBoxes, predicted: Detections, overlaps: Overlaps | None = None) -> None:
        false = is_false_positive(overlaps or compute_overlaps(truth, predicted))
        scores, level = np.unique(-predicted.scores, return_inverse=True)  # level 0 is the highest score
        self._levels = len(scores)
        self._false_image, self._false_level = predicted.image[false], level[false]
        found = np.full(len(truth), self._levels)
        for rows, true_rows in candidate_pairs(truth, predicted):
            hits = paired_iou(predicted.xyxy[rows], truth.xyxy[true_rows]) >= IOU_THRESHOLD
            np.minimum.at(found, true_rows[hits], level[rows[hits]])
        self._object_image, self._found_level = truth.image[truth.is_countable], found[truth.is_countable]

    def at(self, images: int, *, per_image: float = 1.0, times: Ints | None = None) -> float | None:
        """Compute the share of countable true boxes that the boxes of highest score find.

        Args:
            images: Number of images, or of draws.
            per_image: Of the predicted boxes, as many are used as give at most so many false positives per image;
                boxes of equal score all or none.
            times: (N,) how often each image counts; once by default.

        Returns:
            The share; None where no true box counts.
        """
        false, objects = (
            np.ones(len(image)) if times is None else times[image] for image in (self._false_image, self._object_image)
        )
        if not objects.any():
            return None
        so_far: Floats = np.cumsum(np.bincount(self._false_level, weights=false, minlength=self._levels))
        used = np.searchsorted(so_far, per_image * images, side="right")
        return float(objects[self._found_level < used].sum() / objects.sum())

    def interval(self, images: int, *, seed: int, resamples: int) -> list[float] | None:
        """Bootstrap the recall at one false positive per image.

        Args:
            images: Number of images.
            seed: Seed of the resampling.
            resamples: Number of resamples, fewer for very many boxes, see `affordable`.

        Returns:
            The 95 % interval; None where no true box counts, or without resamples.
        """
        if not len(self._object_image) or resamples < 1:
            return None
        number = affordable(resamples, len(self._false_level) + len(self._found_level))
        counts = resample_image_counts(images, seed=seed, resamples=number)
        values = [self.at(images, times=times) for block in counts for times in block]
        return percentile_interval(np.array([value for value in values if value is not None]))


def is_false_positive(overlaps: Overlaps) -> Bools:
    """Return which predictions hit nothing of their class.

    Args:
        overlaps: Overlaps of n predictions with the true boxes.

    Returns:
        (n,) bool, true where IoU is below 0.5 with every countable true box of the class in the image and less than
        half of the box lies inside an ignored one (difficult, ignore or crowd).
    """
    return (overlaps.prediction_iou < IOU_THRESHOLD) & (overlaps.prediction_ignored < 0.5)
