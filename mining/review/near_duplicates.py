"""Near-duplicate photos of a review: of a group, one photo is shown, unless all are asked for.

The photos are searched in the background, so that the review starts at once; until then all are shown.
"""

import threading
from collections.abc import Iterator
from contextlib import suppress

import numpy as np

from mining.arrays import Ints
from mining.corpus.identical_images import ImageFile, map_copies_to_first
from mining.corpus.near_duplicates import find_near_duplicates
from mining.errors import BoxmineError, RunStoppedError
from mining.review.orders import BoxOrder, Order, Target
from mining.review.queues import DISPUTED, PLAN, WHOLE
from mining.review.run_index import RunIndex

START_DELAY_S = 3.0  # the first pages are answered before
_MAX_WAIT_S = 30.0  # for a batch of images, or the import of torch on a busy machine
_SHOWN_WHOLE = (PLAN, WHOLE, DISPUTED)  # estimates need all that a plan drew, and a dispute is decided


class NearDuplicatePhotos:
    """Groups of near-duplicates among the photos of a run; may be used by several threads.

    Each photo of a group is a near-duplicate of the group's first one.
    """

    def __init__(self, index: RunIndex) -> None:
        self._index = index
        self._group_of: dict[int, int] = {}  # by image id, of photos that are in a group; replaced as a whole
        self._members: dict[int, int] = {}
        self._hidden: dict[str, tuple[Order, frozenset[int], int]] = {}
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Search in the background, once."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._search_later, daemon=True, name="near-duplicates")
            self._thread.start()

    def stop(self) -> None:
        """End the search, and wait until the images that are being read are done.

        A thread that works while the interpreter ends would fail in an import or a pool of threads.
        """
        self._stop.set()
        if self._thread is not None:
            self._thread.join(_MAX_WAIT_S)

    def _search_later(self) -> None:
        if not self._stop.wait(START_DELAY_S):
            with suppress(BoxmineError):  # a review works without
                self.search()

    def search(self) -> None:
        """Search all photos; those that were read before, here or by an export, are in the user's cache folder.

        Raises:
            RunStoppedError: `stop` was called.
            StorageError: The disk refuses.
        """

        def check(*_: int) -> None:
            if self._stop.is_set():
                raise RunStoppedError("Stopped.")

        def images() -> Iterator[ImageFile]:
            for name, digest in files:
                check()
                yield ImageFile(name, root / name, digest)

        index = self._index
        files = index.usable_files
        root = index.run.image_root
        copies = map_copies_to_first(images)
        names = [name for name, _ in files]
        found = find_near_duplicates(root, names, copies=copies, workers=1, progress=check)
        stands_for = found.representatives()
        group_of: dict[int, int] = {}
        members: dict[int, int] = {}
        for name in {*stands_for, *stands_for.values()}:
            first = index.image_ids[stands_for.get(name, name)]
            group_of[index.image_ids[name]] = first
            members[first] = members.get(first, 0) + 1
        self._members = members
        self._group_of = group_of
        self._hidden = {}

    def count_others(self, image_id: int) -> int:
        """Return how many near-duplicates a photo has in its group."""
        group = self._group_of.get(image_id)
        return 0 if group is None else self._members[group] - 1

    def count_hidden(self, queue: str, order: Order) -> int:
        """Return how many boxes or images of a queue are not shown."""
        return self._find_hidden(queue, order)[1]

    def hides(self, queue: str, order: Order, target: Target) -> bool:
        """Return whether a target of a queue is not shown: a photo of its group comes before it."""
        hidden = self._find_hidden(queue, order)[0]
        return bool(hidden) and self._image_of(target) in hidden

    def _image_of(self, target: Target) -> int:
        if target.kind == "image":
            return target.number
        return int(self._index.image[self._index.place_of(target.number)])

    def _find_hidden(self, queue: str, order: Order) -> tuple[frozenset[int], int]:
        """Ids of the hidden images of a queue, and how many of its targets are on them."""
        group_of = self._group_of
        if not group_of or queue in _SHOWN_WHOLE:
            return frozenset(), 0
        known = self._hidden.get(queue)
        if known is None or known[0] is not order:
            images = self._images_of(order)
            shown: dict[int, int] = {}
            hidden = set()
            for image in images[np.isin(images, list(group_of))].tolist():
                if shown.setdefault(group_of[image], image) != image:
                    hidden.add(image)
            known = order, frozenset(hidden), int(np.isin(images, list(hidden)).sum())
            self._hidden[queue] = known
        return known[1:]

    def _images_of(self, order: Order) -> Ints:
        """(n,) image ids of the targets of an order, which may be a million."""
        if isinstance(order, BoxOrder):
            return self._index.image[np.searchsorted(self._index.ids, order.ids)]
        count = len(order)
        every = order.after(None)
        return np.array([self._image_of(next(every)) for _ in range(count)], np.int64)
