"""What verdicts mean: whether a box is correct, and which objects an image shows."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from mining.arrays import Floats
from mining.boxes.iou import iou_matrix, paired_iou
from mining.quality.judgements import Box, Judgement, MissedObject

CORRECT_IOU = 0.5  # of a box with its correction; two boxes of one class that overlap as much are of the same object


@dataclass(frozen=True)
class SeenObject:
    """An object that a reviewer sees in an image.

    Attributes:
        category: Its class.
        xywh: Its box in px as far as it is known: as corrected or, of a correct box without a correction, as mined;
            None for a missed object without a box.
        is_found: Whether it has a correct box.
        annotation_id: The mined box that it is known by, None for a missed object.
    """

    category: str
    xywh: Box | None
    is_found: bool
    annotation_id: int | None = None


def is_correct(judgement: Judgement) -> bool | None:
    """Return whether a reviewer finds the box correct: the verdict, and IoU >= 0.5 with the correction if there is one.

    None for an unsure verdict.
    """
    if judgement.verdict == "unsure":
        return None
    if judgement.verdict != "correct" or judgement.corrected is None:
        return judgement.verdict == "correct"
    return bool(paired_iou(boxes_as_edges([judgement.mined]), boxes_as_edges([judgement.corrected]))[0] >= CORRECT_IOU)


def majority(judgements: Iterable[Judgement]) -> bool | None:
    """Return whether most reviewers of a box find it correct; None where there is no majority."""
    found = [one for one in map(is_correct, judgements) if one is not None]
    return None if 2 * sum(found) == len(found) else 2 * sum(found) > len(found)


def seen_objects(judgements: Sequence[Judgement], missed: Iterable[MissedObject]) -> list[SeenObject]:
    """Return the objects of an image, as one reviewer sees it.

    An object is known by its correct box, by the correction of a wrong box, or because the reviewer listed it as
    missed. A wrong box whose correction overlaps an object of its class that is known already is no further object.

    Args:
        judgements: The reviewer's verdicts on the boxes of the image.
        missed: What the reviewer listed as missed.
    """
    objects = [
        SeenObject(one.category, one.corrected or one.mined, True, one.annotation_id)
        for one in judgements
        if is_correct(one)
    ]
    for one in judgements:
        known = None if is_correct(one) in (True, None) else _object_of_wrong_box(one)
        if known is not None and not overlaps_one_of(known, objects):
            objects.append(known)
    return objects + [SeenObject(one.category, one.xywh, False) for one in missed]


def _object_of_wrong_box(judgement: Judgement) -> SeenObject | None:
    """The object that a wrong box was moved to, or is of another class; None if the reviewer did not say."""
    if judgement.verdict == "wrong_class":
        category = judgement.new_category
        xywh: Box | None = judgement.corrected or judgement.mined
    else:
        category, xywh = judgement.category, judgement.corrected
    if category is None or xywh is None or judgement.verdict == "nothing":
        return None
    return SeenObject(category, xywh, False, judgement.annotation_id)


def overlaps_one_of(one: SeenObject, objects: Sequence[SeenObject]) -> bool:
    """Return whether an object of the same class has a box with an IoU of at least CORRECT_IOU."""
    same = [other.xywh for other in objects if other.category == one.category and other.xywh is not None]
    if one.xywh is None or not same:
        return False
    return bool((iou_matrix(boxes_as_edges([one.xywh]), boxes_as_edges(same)) >= CORRECT_IOU).any())


def boxes_as_edges(boxes: Sequence[Box]) -> Floats:
    """Convert n boxes from xywh to (n, 4) float64 xyxy."""
    edges = np.array(boxes, np.float64)
    edges[:, 2:] += edges[:, :2]
    return edges
