"""Where the boxes are good: by the size of the object, and by how many of a class an image holds.

Weakly supervised boxes fail in two ways that one mean hides: small objects are missed, and neighbours of one class grow
into one box. Each row has what COCO's evaluation gives for it, the hit rates of CorLoc's kind, and the false positives
that these hit rates do not see, an image of all images scored, so that the rows of a table add up to the whole.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from mining.arrays import Bools, Ints
from mining.errors import ScoringError
from mining.evaluation.boxes import Detections, Overlaps, TruthBoxes, class_count, pair_codes
from mining.evaluation.metrics.coco import AREAS, coco_scores
from mining.evaluation.metrics.corloc import IOU_THRESHOLD, false_positives, pairs_of
from mining.evaluation.metrics.rules import mean_of

DEFINITION = (
    "by_size: COCO's ranges by the area of the true object (small to 32 x 32 px, medium to 96 x 96 px, large; a border "
    "is in both), false positives by the area of the box. by_instances: (image, class) pairs by the number of their "
    "countable true boxes, with the predicted boxes of these pairs; 0: boxes of classes that the image lacks, which "
    "the AP of no other row sees. AP, AP50, AR: COCO's, at most 100 boxes a pair. corloc, any_box, instance_recall: "
    "shares at IoU >= 0.5. false_positives_per_image: boxes on nothing of their class, over all images scored."
)
# name and lowest number of countable true boxes; up to the next
INSTANCES = (("0", 0), ("1", 1), ("2", 2), ("3-4", 3), ("5+", 5))


def breakdown_scores(
    truth: TruthBoxes,
    predicted: Detections,
    found: Overlaps,
    coco: dict[str, Any],
    classes: Sequence[str],
    *,
    images: int,
) -> dict[str, Any]:
    """Both tables, as scores.json holds them. Shares are in [0, 1]; None where there is nothing to count.

    found: overlaps of truth and predicted. coco: `coco_scores` of the same. classes: names, by class number.
    images: how many were scored, those without a box included. Raises ScoringError when that is none.
    """
    return {
        "definition": DEFINITION,
        "by_size": by_size(truth, predicted, found, coco, images=images),
        "by_instances": by_instances(truth, predicted, found, classes, images=images),
    }


def by_size(
    truth: TruthBoxes, predicted: Detections, found: Overlaps, coco: dict[str, Any], *, images: int
) -> dict[str, dict[str, Any]]:
    """A row each for small, medium and large: objects, AP, AR, instance_recall, false_positives_per_image.

    Takes and raises what `breakdown_scores` does.
    """
    wrong, area = false_positives(found), predicted.xywh[:, 2:].prod(axis=1)
    table = {}
    for size, (lowest, highest) in AREAS.items():
        if size == "all":
            continue
        objects = truth.is_countable & (truth.area >= lowest) & (truth.area <= highest)
        on_nothing = wrong & (area >= lowest) & (area <= highest)
        table[size] = {
            "objects": int(objects.sum()),
            "AP": coco[f"AP{size[0]}"],
            "AR": coco[f"AR{size[0]}"],
            "instance_recall": mean_of(found.truth_iou[objects] >= IOU_THRESHOLD),
            "false_positives_per_image": _per_image(on_nothing, images),
        }
    return table


def by_instances(
    truth: TruthBoxes, predicted: Detections, found: Overlaps, classes: Sequence[str], *, images: int
) -> dict[str, dict[str, Any]]:
    """A row each for pairs of 0, 1, 2, 3-4 and 5+ instances: pairs, objects, AP, AP50, AR, corloc, ...

    Takes and raises what `breakdown_scores` does.
    """
    of_truth, of_predicted = _row_of_each_box(truth, predicted)
    return {
        name: _instances_row(truth, predicted, found, classes, of_truth == row, of_predicted == row, images)
        for row, (name, _) in enumerate(INSTANCES)
    }


def _instances_row(
    truth: TruthBoxes,
    predicted: Detections,
    found: Overlaps,
    classes: Sequence[str],
    of_truth: Bools,
    of_predicted: Bools,
    images: int,
) -> dict[str, Any]:
    boxes, some, overlaps = truth.where(of_truth), predicted.where(of_predicted), found.where(of_predicted, of_truth)
    pairs = pairs_of(boxes, some, overlaps)
    coco = coco_scores(boxes, some, classes)
    return {
        "pairs": len(pairs.image),
        "objects": int(boxes.is_countable.sum()),
        "boxes": len(some),
        "AP": coco["AP"],
        "AP50": coco["AP50"],
        "AR": coco["AR100"],
        "corloc": mean_of(pairs.best_iou >= IOU_THRESHOLD),
        "any_box": mean_of(pairs.any_iou >= IOU_THRESHOLD),
        "instance_recall": mean_of(overlaps.truth_iou[boxes.is_countable] >= IOU_THRESHOLD),
        "false_positives_per_image": _per_image(false_positives(overlaps), images),
    }


def _row_of_each_box(truth: TruthBoxes, predicted: Detections) -> tuple[Ints, Ints]:
    """(m,) and (n,) the row of INSTANCES that the pair of each box belongs to."""
    classes = class_count(truth, predicted)
    of_truth, of_predicted = (pair_codes(boxes.image, boxes.category, classes) for boxes in (truth, predicted))
    pairs, countable = np.unique(of_truth[truth.is_countable], return_counts=True)
    lowest = [least for _, least in INSTANCES]

    def row(code: Ints) -> Ints:
        place = np.searchsorted(pairs, code)
        known = np.append(pairs, -1)[place] == code
        instances = np.where(known, np.append(countable, 0)[place], 0)
        return np.searchsorted(lowest, instances, "right") - 1

    return row(of_truth), row(of_predicted)


def _per_image(flags: Bools, images: int) -> float:
    if images < 1:
        raise ScoringError(f"{images} images were scored; expected one at least.")
    return float(flags.sum() / images)
