"""Average precision of detectors with intervals over test images and seeds, and differences between them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mining.arrays import Floats, Ints
from mining.errors import ScoringError
from mining.evaluation.bootstrap import bias_corrected_interval, resample_image_counts
from mining.evaluation.boxes import Detections, TruthBoxes
from mining.evaluation.metrics.coco import RECALLS, coco_scores, match_detections
from mining.evaluation.metrics.coco_bootstrap import resampling_state, weighted_precision
from mining.evaluation.metrics.voc import average_precision, rank_matches, resampled_average_precision
from mining.evaluation.run_matching import match_run
from mining.evaluation.run_reading import read_run_boxes
from mining.ground_truth.reading import GroundTruth
from mining.runs.run import Run

Interval = tuple[float, float]


@dataclass(frozen=True)
class Precision:
    """Average precision of one detector on the test images, in [0, 1].

    Attributes:
        ap50: PASCAL VOC's average precision at IoU 0.5 (area under the curve), mean over classes.
        ap: COCO's AP, mean over IoU 0.5 to 0.95 and classes.
        resampled_ap50: (R,) ap50 of the resamples of the test images.
        resampled_ap: (R,) ap of the same.
    """

    ap50: float
    ap: float
    resampled_ap50: Floats
    resampled_ap: Floats


class Resamples:
    """Resamples of the test images, the same ones for all detectors.

    Args:
        images: Number of test images.
        resamples: Number of resamples.
        seed: Their seed.

    Attributes:
        counts: (R, images) how often each image was drawn.
    """

    def __init__(self, images: int, resamples: int, seed: int = 0) -> None:
        self.counts: Ints = np.concatenate(list(resample_image_counts(images, seed=seed, resamples=resamples)))

    def measure(self, truth: TruthBoxes, predicted: Detections) -> Precision:
        """Compute the average precision of a detector's boxes, of all images and of each resample.

        Args:
            truth: True boxes of the test images, some of them countable.
            predicted: The detector's boxes.
        """
        matches = rank_matches(truth, predicted)
        images = np.unique(np.concatenate([truth.image, predicted.image]))
        ap50 = resampled_average_precision(iter(self.counts[:, images]), truth, predicted, matches)
        state = resampling_state(truth, match_detections(truth, predicted))
        ap = [weighted_precision(times, *state, RECALLS).mean() for times in self.counts]
        whole = average_precision(truth, predicted)["AP_all_point"]
        classes = [str(number) for number in range(1 + int(truth.category.max()))]
        return Precision(
            float(whole or 0.0),
            float(coco_scores(truth, predicted, classes)["AP"] or 0.0),
            np.array(ap50),
            np.array(ap),
        )


def read_test_boxes(run: Path, whole: GroundTruth) -> tuple[GroundTruth, Detections, list[str]]:
    """Return the true boxes of the test images that a detector mined, its boxes, and notes.

    Args:
        run: Run directory of the test images.
        whole: Their ground truth.

    Raises:
        ScoringError: They share no image or class, or no true box can be counted.
        RunError: A table of the run is missing or damaged.
    """
    match = match_run(whole, read_run_boxes(run), run)
    if not match.truth.boxes.is_countable.any():
        raise ScoringError(f"{whole.file} has no box of the detector's classes on the test images that counts.")
    unread = len(Run(run).read_quarantine(["file_name"])) if Run(run).quarantine.is_file() else 0
    notes = [f"Test images that could not be read: {unread}. Their objects count as not found."] if unread else []
    return match.truth, match.predicted, [*notes, *match.notes]


@dataclass(frozen=True)
class Estimate:
    """A figure over seeds with its 95 % interval.

    Attributes:
        value: Mean over seeds.
        ci95: Bootstrap, see `bias_corrected_interval`: test images are drawn with replacement, and so are seeds where
            there are several.
        by_seed: Its value for each seed.
    """

    value: float
    ci95: Interval
    by_seed: tuple[float, ...]


def estimate(of_seed: Sequence[Precision], figure: str = "ap50") -> Estimate:
    """Return the mean of a figure over detectors that differ in their seed."""
    values = tuple(float(getattr(one, figure)) for one in of_seed)
    value = float(np.mean(values))
    return Estimate(value, _interval(over_seeds(of_seed, figure), value, (0, 1)), values)


def difference(first: Mapping[int, Precision], second: Mapping[int, Precision]) -> Estimate:
    """Return how much higher the AP50 of the second kind of boxes is, on the seeds of both.

    Args:
        first: Precision by seed.
        second: The same of the other kind.
    """
    return _compare(first, second, lambda one, other: other - one, (-1, 1))


def share(whole: Mapping[int, Precision], part: Mapping[int, Precision]) -> Estimate:
    """Return the AP50 of one kind of boxes as a share of that of another, on the seeds of both."""
    return _compare(whole, part, lambda one, other: other / np.maximum(one, 1e-9), (0, np.inf))


def _compare(
    first: Mapping[int, Precision],
    second: Mapping[int, Precision],
    combine: Callable[[Floats, Floats], Floats],
    within: Interval,
) -> Estimate:
    seeds = sorted(first.keys() & second.keys())
    ones, others = [first[seed] for seed in seeds], [second[seed] for seed in seeds]
    by_seed = [
        float(combine(np.array(one.ap50), np.array(other.ap50))) for one, other in zip(ones, others, strict=True)
    ]
    value = combine(
        np.array([one.ap50 for one in ones]).mean(keepdims=True),
        np.array([one.ap50 for one in others]).mean(keepdims=True),
    )
    resampled = combine(over_seeds(ones, "ap50"), over_seeds(others, "ap50"))
    return Estimate(float(value[0]), _interval(resampled, float(value[0]), within), tuple(by_seed))


def over_seeds(of_seed: Sequence[Precision], figure: str) -> Floats:
    """(R,) resampled means: each resample of the images draws as many seeds as there are, the same for all kinds."""
    table = np.stack([getattr(one, f"resampled_{figure}") for one in of_seed])
    drawn = np.random.default_rng(0).integers(0, len(table), size=table.shape)
    return np.take_along_axis(table, drawn, axis=0).mean(axis=0)


def _interval(values: Floats, value: float, within: Interval) -> Interval:
    low, high = bias_corrected_interval(values, value, within=within)
    return low, high
