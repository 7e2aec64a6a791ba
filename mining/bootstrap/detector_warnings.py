"""Sentences about what a detector learns from: warnings of the localizer whose boxes these are, and rare classes.

They are kept in the detector's model card, and so are in the warnings of every run that is mined with it.
"""

from collections.abc import Sequence

import numpy as np

from mining.bootstrap.training_boxes import TrainingBoxes
from mining.runs.model_warnings import warnings_of_models
from mining.runs.run import Run

# boxes of a class: with fewer, detectors reach 55 to 68 % of the AP50 with all boxes, with more 79 to 84 %
# (docs/benchmarks.md, "What mined boxes are worth")
FEW_BOXES = 10
OF_LOCALIZER = "Of the localizer whose boxes the detector learned from: "
_OF_FEW = "The detector learned from few boxes of "
_NAMED = 8


def warnings_of_localizer(run: Run) -> list[str]:
    """Return the warnings of the training of the localizer that a run's boxes are from, each marked as such.

    Args:
        run: A finished run that a detector learns from, mined with a localizer, or with a detector that learned from
            one.
    """
    found = warnings_of_models(run)
    marked = [sentence for sentence in found if sentence.startswith(OF_LOCALIZER)]
    own = [sentence for sentence in found if not sentence.startswith((OF_LOCALIZER, _OF_FEW))]
    return [*marked, *(f"{OF_LOCALIZER}{sentence}" for sentence in own)]


def warn_of_few_boxes(found: TrainingBoxes) -> list[str]:
    """Return a sentence about the classes of which a detector learns from fewer than FEW_BOXES boxes.

    Args:
        found: What it is trained on.
    """
    counts = np.zeros(len(found.classes), np.int64)
    for image in found.images:
        np.add.at(counts, image.classes[image.weights > 0], 1)
    few = np.flatnonzero(counts < FEW_BOXES).tolist()
    return [_describe(few, [str(entry["name"]) for entry in found.classes], counts.tolist())] if few else []


def _describe(few: Sequence[int], names: Sequence[str], counts: Sequence[int]) -> str:
    few = sorted(few, key=lambda place: counts[place])
    listed = ", ".join(f"{names[place]!r} ({counts[place]})" for place in few[:_NAMED])
    more = f" and {len(few) - _NAMED} more classes" if len(few) > _NAMED else ""
    return (
        f"{_OF_FEW}{listed}{more}: it may miss many of their objects. Add images that show them, for {FEW_BOXES} boxes "
        "of each class or more."
    )
