"""The runs that one application reviews; each is opened when somebody first looks at it."""

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from mining.errors import InputError
from mining.review.maps import Maps
from mining.review.pictures import PictureFolder, Pictures
from mining.review.session import ReviewSession
from mining.runs.run import Run


@dataclass(frozen=True)
class RunToReview:
    """A run that can be chosen.

    Attributes:
        path: The run directory.
        title: What the page calls it.
    """

    path: Path
    title: str


class Review(NamedTuple):
    """What one run needs."""

    session: ReviewSession
    pictures: Pictures
    maps: Maps


class Reviews:
    """The runs of an application; may be used by several threads.

    Attributes:
        runs: What can be chosen.
    """

    def __init__(self, runs: Sequence[RunToReview], folder: PictureFolder, against: Path | None = None) -> None:
        """Take the runs; none is opened yet.

        Args:
            runs: The runs, at least one; the first one is shown first.
            folder: Where pictures are kept.
            against: Another run that they are compared with.
        """
        self.runs = list(runs)
        self._folder, self._against = folder, against
        self._opened: dict[int, Review] = {}
        self._lock = threading.Lock()
        self._searches = False

    def open(self, number: int) -> Review:
        """Return the review of a run, by its place in the list.

        Raises:
            InputError: There is no such run.
            RunError: The run is not finished, or damaged; or the other run is, or shares no image with it.
        """
        if not 0 <= number < len(self.runs):
            raise InputError(f"There is no run {number}.")
        with self._lock:
            if number not in self._opened:
                run = Run.open(self.runs[number].path, finished=True)
                other = None if self._against is None else Run.open(self._against, finished=True)
                self._opened[number] = Review(ReviewSession(run, other), Pictures(run, self._folder), Maps(run))
                if self._searches:
                    self._opened[number].session.near_duplicates.start()
            return self._opened[number]

    def search_near_duplicates(self) -> None:
        """Search the photos of runs that are open, or are opened later, for near-duplicates in the background."""
        with self._lock:
            self._searches = True
            for review in self._opened.values():
                review.session.near_duplicates.start()

    def close(self) -> None:
        """Write the tables of verdicts of the runs that were opened."""
        for review in self._opened.values():
            review.session.close()
