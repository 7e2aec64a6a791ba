"""Threads that work beside a network: ahead of it and behind it.

Beside a GPU they work while it does. A network on the CPU uses all cores for each of its layers and waits for the
slowest, so that whatever else runs there stops it time and again; there the threads and the network take turns.
"""

import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from itertools import islice
from typing import Any, Generic, TypeVar, cast

import torch

from mining.corpus.images.image_file import set_stop_event

T = TypeVar("T")
R = TypeVar("R")


class InferenceThreadPool(Generic[R]):
    """Threads, each of which computes with one core.

    alternate_with_forward: they rest while `each` is not asked for the next item, but for items computed in advance.
    """

    def __init__(self, threads: int, *, alternate_with_forward: bool) -> None:
        self.alternate_with_forward = alternate_with_forward
        self._behind: deque[Future[R]] = deque()
        self._resting: deque[tuple[Callable[..., R], tuple[Any, ...]]] = deque()
        self._stop = threading.Event()
        self._pool = _pool(threads, self._stop)

    def __enter__(self) -> "InferenceThreadPool[R]":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            self._stop.set()
        self._pool.shutdown(wait=kind is None, cancel_futures=True)

    def each(self, work: Callable[[int, Any], T], items: Sequence[Any], *, ahead: int) -> Iterator[Future[T]]:
        """The finished `work` on each (place, item), in their order; at most about `ahead` of them in advance."""
        numbered = enumerate(items)
        if self.alternate_with_forward:
            while some := list(islice(numbered, ahead)):
                futures = [self._pool.submit(work, *one) for one in some]
                self._wake()
                wait(cast(list[Future[Any]], [*futures, *self._behind]))
                yield from futures
            return
        queue: deque[Future[T]] = deque()
        for one in numbered:
            queue.append(self._pool.submit(work, *one))
            if len(queue) > ahead:
                yield _finished(queue.popleft())
        while queue:
            yield _finished(queue.popleft())

    def later(self, work: Callable[..., R], *args: Any) -> None:
        """Have it done; `results` gives what came of it."""
        if self.alternate_with_forward:
            self._resting.append((work, args))
        else:
            self._behind.append(self._pool.submit(work, *args))

    def results(self, *, behind: int = 0) -> Iterator[R]:
        """What came of `later`, in order, waiting while more than `behind` are under way; 0 ends all of it."""
        if not behind:
            self._wake()
        while self._behind and (len(self._behind) > behind or self._behind[0].done()):
            yield self._behind.popleft().result()

    def _wake(self) -> None:
        while self._resting:
            work, args = self._resting.popleft()
            self._behind.append(self._pool.submit(work, *args))


def _pool(threads: int, stop: threading.Event) -> ThreadPoolExecutor:
    """Threads that have begun, in which torch uses one core each, and whose long work ends once `stop` is set.

    Elsewhere torch keeps its number of cores: `set_num_threads` is for the thread that calls it and for new ones.
    """
    cores = torch.get_num_threads()
    begun = threading.Barrier(threads + 1)

    def begin() -> None:
        set_stop_event(stop)
        torch.get_num_threads()  # or the thread's first computation would ask, and undo what comes next
        torch.set_num_threads(1)
        begun.wait()

    pool = ThreadPoolExecutor(threads, initializer=begin)
    for _ in range(threads):
        pool.submit(int)
    begun.wait()
    torch.set_num_threads(cores)
    return pool


def _finished(future: Future[T]) -> Future[T]:
    future.exception()  # waits
    return future
