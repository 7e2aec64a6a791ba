"""Another run of the same images, whose boxes are shown next to those of the run that is reviewed."""

from collections.abc import Iterator
from functools import cached_property
from typing import Any, Literal

import numpy as np

from mining.ground_truth.matching import match_classes
from mining.quality.box_arrays import BOX_COLUMNS, BoxArrays
from mining.quality.outcomes import CORRECT_IOU
from mining.quality.signals import best_overlaps, shared_images
from mining.review.run_index import RunIndex
from mining.runs.run import Run


class OtherRun:
    """The boxes of another run on the images that both mined, found by their file names.

    Attributes:
        name: Name of the other run.
    """

    def __init__(self, index: RunIndex, run: Run) -> None:
        """Match the images. Raises RunError if the other run is not finished, or shares no image."""
        run.require_finished()
        self._own, self._other = index, RunIndex(run)
        self._theirs = shared_images(index.run, run)
        self.name = run.name

    def boxes_on(self, image_id: int) -> list[dict[str, Any]] | None:
        """Return class and place, xywh in px, of the other run's boxes on an image of this run, best score first.

        Returns:
            None if the other run did not mine the image, or mined another file of that name.
        """
        number = self._theirs.get(image_id)
        if number is None:
            return None
        other = self._other
        return [
            {
                "category": self._class_names[int(other.category[place])],
                "box": [round(float(side), 2) for side in other.xywh[place]],
            }
            for place in other.places_on(number)
        ]

    @cached_property
    def _class_names(self) -> dict[int, str]:
        """This run's names of the other run's classes; the other run's own where this run has no such class."""
        names = tuple(self._own.classes.values())
        theirs = self._other.classes
        places = match_classes(tuple(theirs.values()), names).tolist()
        return {
            number: name if place < 0 else names[place]
            for (number, name), place in zip(theirs.items(), places, strict=True)
        }

    def differences(self) -> Iterator[tuple[Literal["box", "image"], int]]:
        """Yield, image by image, the boxes that the other run does not have, and images where it has further ones.

        A box is had by the other run if one of its boxes of the same class has an IoU of at least CORRECT_IOU with it.
        """
        own_run, other_run = self._own.run, self._other.run
        own, theirs = (BoxArrays(run.read_annotations(BOX_COLUMNS)) for run in (own_run, other_run))
        is_alone = best_overlaps(own_run, own, other_run) < CORRECT_IOU  # NaN, not mined by the other: False
        is_further = best_overlaps(other_run, theirs, own_run) < CORRECT_IOU
        ids = own.table["annotation_id"].to_numpy()
        alone: dict[int, list[int]] = {}
        for place in np.flatnonzero(is_alone).tolist():
            alone.setdefault(int(own.image_id[place]), []).append(int(ids[place]))
        with_further = set(theirs.image_id[is_further].tolist())
        for number, their_number in self._theirs.items():
            yield from (("box", one) for one in alone.get(number, ()))
            if their_number in with_further:
                yield "image", number
