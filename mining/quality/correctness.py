"""Which boxes of a run are correct, from any ground truth or from verdicts of people; calibration from them."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from mining.arrays import Bools, Floats
from mining.errors import ScoringError
from mining.evaluation.boxes import Detections, compute_overlaps
from mining.evaluation.run_reading import match_images, read_run_boxes
from mining.ground_truth.matching import match_classes, match_names
from mining.ground_truth.reading import read_ground_truth
from mining.quality.audit import judged_boxes
from mining.quality.calibration import IOU_CORRECT, Calibration, calibrate
from mining.quality.table import apply_calibration, read_boxes_with_quality
from mining.runs.run import Run

_IN_CROWD = 0.5


@dataclass(frozen=True)
class Correctness:
    """What a ground truth says of a run's n boxes.

    Attributes:
        is_correct: (n,) 1 where the IoU with a true box of the class is at least 0.5, else 0; NaN for boxes that the
            ground truth does not judge.
        iou: (n,) IoU with the best true box of the class; NaN likewise.
    """

    is_correct: Floats
    iou: Floats

    @property
    def is_judged(self) -> Bools:
        """(n,) whether the ground truth judges each box."""
        return np.isfinite(self.is_correct)


def judge_by_truth(run: Run, truth: Path) -> Correctness:
    """Compare a run's boxes with a ground truth, in the order of annotations.parquet.

    A box on a difficult object is correct, as a person would say. Not judged are boxes on images or of classes that the
    ground truth lacks, and wrong boxes that lie by more than half in a crowd.

    Args:
        run: A finished run.
        truth: COCO JSON, folder of VOC XML, or CUB folder.

    Raises:
        ScoringError: The ground truth cannot be used, or shares no image with the run.
        RunError: The run directory lacks its tables.
    """
    whole, boxes = read_ground_truth(truth), read_run_boxes(run.path)
    matched = match_images(whole, boxes.file_names, run.path)
    shared = np.flatnonzero(matched.position >= 0)
    if not len(shared):
        raise ScoringError(
            f"No image of {truth} is in the corpus of {run.path}. Pass the ground truth of these images."
        )
    image_of_row = np.full(len(boxes.file_names) + 1, -1, np.int64)
    image_of_row[matched.position[shared]] = shared
    image = image_of_row[match_names(boxes.box_files, boxes.file_names)][boxes.box_file]
    category = match_classes(boxes.box_classes, whole.classes)[boxes.box_class]
    judged = (image >= 0) & (category >= 0)
    true_boxes = replace(whole.boxes, is_ignored=whole.boxes.is_crowd)
    overlaps = compute_overlaps(
        true_boxes, Detections(image[judged], category[judged], boxes.xywh[judged], boxes.scores[judged])
    )
    iou = np.full(len(judged), np.nan)
    iou[judged] = overlaps.prediction_iou
    in_crowd = np.zeros(len(judged), bool)
    in_crowd[judged] = (overlaps.prediction_ignored > _IN_CROWD) & (overlaps.prediction_iou < IOU_CORRECT)
    iou[in_crowd] = np.nan
    return Correctness(np.where(np.isnan(iou), np.nan, iou >= IOU_CORRECT), iou)


def judge_by_verdicts(run: Run) -> Correctness:
    """Return what people said about a run's boxes, in the order of annotations.parquet; the IoU is not known.

    Only verdicts on boxes that were drawn at random count: the others say nothing about boxes that nobody looked at.
    """
    boxes = judged_boxes(run.path)
    is_correct = np.full(len(boxes.score), np.nan)
    is_correct[boxes.judged] = boxes.is_correct
    return Correctness(is_correct, np.full(len(is_correct), np.nan))


def calibrate_run(run: Run, truth: Path | None = None, *, agree_with: Run | None = None, seed: int = 0) -> Calibration:
    """Calibrate a run's boxes, and store calibration and probabilities in the run directory.

    Args:
        run: A finished run.
        truth: COCO JSON, folder of VOC XML, or CUB folder; it may have few of the run's images. None for the verdicts
            that were recorded; then only p_correct is calibrated.
        agree_with: Another finished run of the same images, for `run_agreement`.
        seed: Decides which images share a fold.

    Returns:
        The calibration; with fewer than 50 judged boxes one that is not `is_calibrated`. Nothing is stored then.

    Raises:
        ScoringError: The ground truth cannot be used, or shares no image with the run.
        RunError: A table of the run is missing or damaged.
    """
    known = judge_by_verdicts(run) if truth is None else judge_by_truth(run, truth)
    signals = read_boxes_with_quality(run, agree_with=agree_with)
    calibration = calibrate(signals, known.is_correct, known.iou, signals["file_name"].to_pylist(), seed=seed)
    if agree_with is not None:
        calibration = replace(calibration, agree_with=str(agree_with.path.resolve()))
    if calibration.is_calibrated:
        apply_calibration(run, calibration)
    return calibration
