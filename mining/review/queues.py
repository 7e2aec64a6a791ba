"""The queues of a review: which boxes and images each has, and in which order."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from mining.corpus.names import normalise_class_name
from mining.errors import InputError
from mining.quality.judgements import ImageJudgement, Judgement
from mining.quality.outcomes import is_correct, majority
from mining.quality.verdicts import open_verdicts
from mining.review.orders import BoxOrder, Order, Target, TargetOrder
from mining.review.other_run import OtherRun
from mining.review.run_index import RunIndex

PLAN, DOUBTFUL, WHOLE, NO_BOX, DISPUTED, CLASS = "plan", "doubtful", "images", "no_box", "disputed", "class:"
DIFFERENT, QUARANTINED = "different", "quarantined"
_OF_PLANS = (PLAN, WHOLE)


@dataclass
class Verdicts:
    """What was said so far: the last verdict of each reviewer on each box, by id, and on each image, by name."""

    boxes: dict[int, dict[str, Judgement]] = field(default_factory=dict)
    images: dict[str, dict[str, ImageJudgement]] = field(default_factory=dict)


class Queues:
    """The queues of a run; each is made when it is first asked for.

    Attributes:
        index: The run's boxes and images.
        other: The run that it is compared with; None for none.
        verdicts: What was said so far.
    """

    def __init__(self, index: RunIndex, other: OtherRun | None = None) -> None:
        self.index, self.other = index, other
        self.verdicts = Verdicts()
        self._orders: dict[str, Order] = {}

    def describe(self) -> list[dict[str, Any]]:
        """Return the queues that there are: name, title, and number of boxes or images, None if not known yet."""
        classes = sorted({self.index.classes[one] for one in np.unique(self.index.category).tolist()})
        names = [
            (PLAN, "Random draw"),
            (DOUBTFUL, "Most doubtful first"),
            (WHOLE, "Whole images"),
            (NO_BOX, "Images without a box"),
            (DISPUTED, "Reviewers disagree"),
            *([] if self.other is None else [(DIFFERENT, f"Different in {self.other.name}")]),
            *([(QUARANTINED, "Could not be used")] if self.index.quarantined else []),
            *((f"{CLASS}{name}", f"Class {name}") for name in classes),
        ]
        return [{"name": name, "title": title, "size": self._size(name)} for name, title in names]

    def _size(self, queue: str) -> int | None:
        """How many boxes or images a queue has; of those that have many without making the list."""
        if queue == DOUBTFUL:
            return len(self.index)
        if queue == QUARANTINED:
            return len(self.index.quarantined)
        if queue == DIFFERENT and queue not in self._orders:
            return None  # the comparison takes seconds for a million boxes
        if queue.startswith(CLASS):
            return int(np.isin(self.index.category, self._numbers_of(queue)).sum())
        return len(self.order(queue))

    def _numbers_of(self, queue: str) -> list[int]:
        """The category_ids of a class's queue."""
        wanted = normalise_class_name(queue.removeprefix(CLASS))
        return [number for number, name in self.index.classes.items() if normalise_class_name(name) == wanted]

    def order(self, queue: str) -> Order:
        """Return the boxes and images of a queue in its order. Raises InputError if there is no such queue."""
        if queue == DISPUTED:  # changes with every verdict
            return TargetOrder([Target("box", number, is_disputed=True) for number in disputed_boxes(self.verdicts)])
        if queue not in self._orders:
            self._orders[queue] = self._find_order(queue)
        return self._orders[queue]

    def forget_plans(self) -> None:
        """Read the plans again when they are next asked for."""
        for queue in _OF_PLANS:
            self._orders.pop(queue, None)

    def _find_order(self, queue: str) -> Order:
        index = self.index
        if queue == PLAN:
            return TargetOrder(list(self._of_plans()))
        if queue == WHOLE:
            return TargetOrder(list(self._whole_images()))
        if queue == NO_BOX:
            return TargetOrder([Target("image", number) for number in index.images_without_box])
        if queue == DOUBTFUL:
            return BoxOrder(index.ids[index.doubtful_first()])
        if queue == DIFFERENT and self.other is not None:
            return TargetOrder([Target(kind, number) for kind, number in self.other.differences()])
        if queue == QUARANTINED:  # they have no picture and no box to judge
            return TargetOrder([])
        if queue.startswith(CLASS):
            places = np.flatnonzero(np.isin(index.category, self._numbers_of(queue)))
            return BoxOrder(index.ids[places[np.argsort(index.score[places], kind="stable")]])
        raise InputError(f"There is no queue {queue!r}.")

    def _of_plans(self) -> Iterator[Target]:
        """The boxes of the plans, plan by plan, each in a random order that stays the same."""
        with open_verdicts(self.index.run.path, to_write=False) as store:
            plans = [(plan, store.drawn_by(plan) or {}) for plan in store.plans()]
        for plan, drawn in plans:
            for why in ("random", "suspicious"):
                some = [one for one in drawn.values() if one.why == why]
                for one in sorted(some, key=lambda one: shuffled(plan, one.annotation_id)):
                    yield Target("box", one.annotation_id, plan, one.why)

    def _whole_images(self) -> Iterator[Target]:
        with open_verdicts(self.index.run.path, to_write=False) as store:
            plans = [(plan, store.images_of(plan)) for plan in store.plans()]
        for plan, names in plans:
            for name in sorted(names, key=lambda one: shuffled(plan, one)):
                if name in self.index.image_ids:
                    yield Target("image", self.index.image_ids[name], plan, "image")


def disputed_boxes(verdicts: Verdicts) -> Iterator[int]:
    """Yield the ids of the boxes that some reviewers find correct and as many others wrong."""
    for number, said in sorted(verdicts.boxes.items()):
        outcomes = {is_correct(one) for one in said.values()} - {None}
        if outcomes == {True, False} and majority(said.values()) is None:
            yield number


def shuffled(plan: str, key: object) -> int:
    """Return a number that orders the parts of a plan at random, the same way each time."""
    return int.from_bytes(hashlib.sha256(f"{plan}/{key}".encode()).digest()[:8], "big")
