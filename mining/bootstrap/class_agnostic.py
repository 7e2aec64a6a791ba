"""Localization apart from classification: a detector that learns where objects are, and not what they are.

It learns from the boxes of all classes as one class, so from more examples of it than of any single one. Which class
its boxes have follows from the labels of their images and the boxes that they overlap, see
`mining.fusion.class_assignment`.

Reference:
    Zhang, Cao and Wu, "Rethinking the Route Towards Weakly Supervised Object Localization", CVPR 2020 (PSOL), for one
    object per image.
"""

from dataclasses import replace

import numpy as np

from mining.bootstrap.training_boxes import TrainingBoxes
from mining.models.card import OBJECT


def as_one_class(found: TrainingBoxes) -> TrainingBoxes:
    """Return what a detector is trained on, with the boxes of all classes as those of the class `object`."""
    images = [replace(image, classes=np.zeros_like(image.classes)) for image in found.images]
    return replace(found, images=images, classes=[{"id": 1, "name": OBJECT}])
