"""The order of a queue: a list of targets, or the ids of many boxes, whose targets are made when they are needed."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain, islice
from typing import Literal, Protocol

import numpy as np

from mining.arrays import Ints
from mining.quality.judgements import Why

Kind = Literal["box", "image"]
Key = tuple[Kind, int]


@dataclass(frozen=True)
class Target:
    """What is shown: a box or a whole image, the plan that asks for it, and whether one more person is to decide."""

    kind: Kind
    number: int
    plan: str = ""
    why: Why = "review"
    is_disputed: bool = False

    @property
    def key(self) -> Key:
        """Identifies the box or image."""
        return self.kind, self.number


class Order(Protocol):
    """Boxes and images in the order of a queue."""

    def __len__(self) -> int:
        """Return how many there are."""

    def find(self, key: Key) -> Target | None:
        """Return the target with a key; None if the queue does not have it."""

    def after(self, key: Key | None) -> Iterator[Target]:
        """Yield all targets, beginning after one of them; from the first on for a key that is None or unknown."""


class TargetOrder:
    """A list of targets."""

    def __init__(self, targets: Sequence[Target]) -> None:
        self._targets = targets

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self._targets)

    @cached_property
    def _places(self) -> dict[Key, int]:
        return {one.key: place for place, one in enumerate(self._targets)}

    def find(self, key: Key) -> Target | None:
        """See Order."""
        place = self._places.get(key)
        return None if place is None else self._targets[place]

    def after(self, key: Key | None) -> Iterator[Target]:
        """See Order."""
        first = 0 if key is None else self._places.get(key, -1) + 1
        return chain(islice(self._targets, first, None), islice(self._targets, first))


class BoxOrder:
    """Boxes that no plan asks for, by their (n,) ids."""

    def __init__(self, ids: Ints) -> None:
        self._ids = ids

    @property
    def ids(self) -> Ints:
        """The ids in the order of the queue."""
        return self._ids

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self._ids)

    @cached_property
    def _by_id(self) -> Ints:
        return np.argsort(self._ids)

    def _place_of(self, key: Key) -> int | None:
        kind, number = key
        if kind != "box" or not len(self._ids):
            return None
        at = min(int(np.searchsorted(self._ids, number, sorter=self._by_id)), len(self._ids) - 1)
        place = int(self._by_id[at])
        return place if self._ids[place] == number else None

    def find(self, key: Key) -> Target | None:
        """See Order."""
        return None if self._place_of(key) is None else Target("box", key[1])

    def after(self, key: Key | None) -> Iterator[Target]:
        """See Order."""
        place = None if key is None else self._place_of(key)
        first = 0 if place is None else place + 1
        for some in (self._ids[first:], self._ids[:first]):
            for number in some:
                yield Target("box", int(number))
