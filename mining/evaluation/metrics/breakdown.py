"""Scores broken down by the size of the object, and by how many objects of a class an image holds.

Weakly supervised boxes fail in two ways that a single mean hides: small objects are missed, and neighbours of one class
grow into one box. Each row has COCO's figures for it, hit rates as for CorLoc, and the false positives that these hit
rates do not show, per image of all images scored, so that the rows of a table add up to the whole.
"""

from collections.abc import Callable, Sequence

import numpy as np

from mining.arrays import Bools, Ints
from mining.errors import ScoringError
from mining.evaluation.boxes import Detections, Overlaps, TruthBoxes, count_classes, encode_pairs
from mining.evaluation.metrics.coco import AREAS, coco_scores
from mining.evaluation.metrics.corloc import pair_results
from mining.evaluation.metrics.hits import IOU_THRESHOLD, mean_or_none
from mining.evaluation.metrics.instance_recall import is_false_positive
from mining.evaluation.scores import BreakdownScores, CocoFigures, InstancesRow, SizeRow

DEFINITION = (
    "by_size: COCO's ranges by the area of the true object (small to 32 x 32 px, medium to 96 x 96 px, large; a border "
    "is in both), false positives by the area of the box. by_instances: (image, class) pairs by the number of their "
    "countable true boxes, with the predicted boxes of these pairs; 0: boxes of classes that the image lacks, which "
    "the AP of no other row sees. AP, AP50, AR: COCO's, at most 100 boxes a pair. corloc, any_box, instance_recall: "
    "shares at IoU >= 0.5. false_positives_per_image: boxes on nothing of their class, over all images scored."
)
# name and lowest number of countable true boxes, up to the next row's
INSTANCES = (("0", 0), ("1", 1), ("2", 2), ("3-4", 3), ("5+", 5))
CocoEngine = Callable[[TruthBoxes, Detections, Sequence[str]], CocoFigures]


def breakdown_scores(
    truth: TruthBoxes,
    predicted: Detections,
    overlaps: Overlaps,
    coco: CocoFigures,
    classes: Sequence[str],
    *,
    images: int,
    engine: CocoEngine = coco_scores,
) -> BreakdownScores:
    """Compute both tables, the `breakdown` part of scores.json.

    Args:
        truth: True boxes.
        predicted: Predicted boxes.
        overlaps: `compute_overlaps(truth, predicted)`.
        coco: COCO's figures of the same boxes.
        classes: Class names; `category` of both box tables counts into them.
        images: Number of images scored, those without a box included.
        engine: Computes COCO's figures of a part of the boxes.

    Returns:
        Shares in [0, 1]; None where there is nothing to count.

    Raises:
        ScoringError: No image was scored.
    """
    return {
        "definition": DEFINITION,
        "by_size": by_size(truth, predicted, overlaps, coco, images=images),
        "by_instances": by_instances(truth, predicted, overlaps, classes, images=images, engine=engine),
    }


def by_size(
    truth: TruthBoxes, predicted: Detections, overlaps: Overlaps, coco: CocoFigures, *, images: int
) -> dict[str, SizeRow]:
    """Compute one row each for small, medium and large objects; see `breakdown_scores`."""
    is_wrong, area = is_false_positive(overlaps), predicted.xywh[:, 2:].prod(axis=1)
    rows: dict[str, SizeRow] = {}
    for size, (lowest, highest) in AREAS.items():
        if size == "all":
            continue
        objects = truth.is_countable & (truth.area >= lowest) & (truth.area <= highest)
        false_positives = is_wrong & (area >= lowest) & (area <= highest)
        figures: dict[str, float | None] = {**coco}  # type: ignore[dict-item]
        rows[size] = {
            "objects": int(objects.sum()),
            "AP": figures[f"AP{size[0]}"],
            "AR": figures[f"AR{size[0]}"],
            "instance_recall": mean_or_none(overlaps.truth_iou[objects] >= IOU_THRESHOLD),
            "false_positives_per_image": _per_image(false_positives, images),
        }
    return rows


def by_instances(
    truth: TruthBoxes,
    predicted: Detections,
    overlaps: Overlaps,
    classes: Sequence[str],
    *,
    images: int,
    engine: CocoEngine = coco_scores,
) -> dict[str, InstancesRow]:
    """Compute one row each for pairs of 0, 1, 2, 3-4 and 5 or more instances; see `breakdown_scores`."""
    truth_row, predicted_row = _row_of_each_box(truth, predicted)
    rows: dict[str, InstancesRow] = {}
    for row, (name, _) in enumerate(INSTANCES):
        of_truth, of_predicted = truth_row == row, predicted_row == row
        boxes, detections = truth.where(of_truth), predicted.where(of_predicted)
        selected = overlaps.where(of_predicted, of_truth)
        pairs = pair_results(boxes, detections, selected)
        coco = engine(boxes, detections, classes)
        rows[name] = {
            "pairs": len(pairs.image),
            "objects": int(boxes.is_countable.sum()),
            "boxes": len(detections),
            "AP": coco["AP"],
            "AP50": coco["AP50"],
            "AR": coco["AR100"],
            "corloc": mean_or_none(pairs.best_iou >= IOU_THRESHOLD),
            "any_box": mean_or_none(pairs.any_iou >= IOU_THRESHOLD),
            "instance_recall": mean_or_none(selected.truth_iou[boxes.is_countable] >= IOU_THRESHOLD),
            "false_positives_per_image": _per_image(is_false_positive(selected), images),
        }
    return rows


def _row_of_each_box(truth: TruthBoxes, predicted: Detections) -> tuple[Ints, Ints]:
    """(m,) and (n,) the row of INSTANCES that the pair of each box belongs to."""
    classes = count_classes(truth, predicted)
    truth_codes, predicted_codes = (encode_pairs(boxes.image, boxes.category, classes) for boxes in (truth, predicted))
    pairs, countable = np.unique(truth_codes[truth.is_countable], return_counts=True)
    lowest = [least for _, least in INSTANCES]

    def rows(codes: Ints) -> Ints:
        place = np.searchsorted(pairs, codes)
        is_known = np.append(pairs, -1)[place] == codes
        instances = np.where(is_known, np.append(countable, 0)[place], 0)
        return np.searchsorted(lowest, instances, "right") - 1

    return rows(truth_codes), rows(predicted_codes)


def _per_image(flags: Bools, images: int) -> float:
    if images < 1:
        raise ScoringError(f"{images} images were scored; expected at least one.")
    return float(flags.sum() / images)
