"""Worker threads ahead of a network (decoding) and behind it (box extraction).

With a GPU, they work at the same time as the network. On a CPU, each layer uses all cores and waits for the slowest, so
that other work would delay it again and again; there the threads and the network alternate.
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
    """A pool of threads that compute with one core each.

    Args:
        threads: Number of threads.
        alternate_with_forward: Work only while the caller waits for the next item of `map_ordered` or for `results`.
    """

    def __init__(self, threads: int, *, alternate_with_forward: bool) -> None:
        self.alternate_with_forward = alternate_with_forward
        self._pending: deque[Future[R]] = deque()
        self._waiting: deque[tuple[Callable[..., R], tuple[Any, ...]]] = deque()
        self._stop = threading.Event()
        self._pool = _pool(threads, self._stop)

    def __enter__(self) -> "InferenceThreadPool[R]":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            self._stop.set()
        self._pool.shutdown(wait=kind is None, cancel_futures=True)

    def map_ordered(self, work: Callable[[int, Any], T], items: Sequence[Any], *, ahead: int) -> Iterator[Future[T]]:
        """Yield the finished futures of `work(place, item)` in order, computing at most about `ahead` in advance."""
        numbered = enumerate(items)
        if self.alternate_with_forward:
            while some := list(islice(numbered, ahead)):
                futures = [self._pool.submit(work, *one) for one in some]
                self._wake()
                wait(cast(list[Future[Any]], [*futures, *self._pending]))
                yield from futures
            return
        queue: deque[Future[T]] = deque()
        for one in numbered:
            queue.append(self._pool.submit(work, *one))
            if len(queue) > ahead:
                yield _await(queue.popleft())
        while queue:
            yield _await(queue.popleft())

    def submit(self, work: Callable[..., R], *args: Any) -> None:
        """Schedule work; `results` yields its result."""
        if self.alternate_with_forward:
            self._waiting.append((work, args))
        else:
            self._pending.append(self._pool.submit(work, *args))

    def results(self, *, behind: int = 0) -> Iterator[R]:
        """Yield results of `submit` in order, waiting while more than `behind` are pending; 0 waits for all."""
        if not behind:
            self._wake()
        while self._pending and (len(self._pending) > behind or self._pending[0].done()):
            yield self._pending.popleft().result()

    def _wake(self) -> None:
        while self._waiting:
            work, args = self._waiting.popleft()
            self._pending.append(self._pool.submit(work, *args))


def _pool(threads: int, stop: threading.Event) -> ThreadPoolExecutor:
    """Return started threads in which torch uses one core each, and whose long work ends once `stop` is set.

    Other threads keep torch's number of cores: `set_num_threads` affects the calling thread and new ones.
    """
    cores = torch.get_num_threads()
    begun = threading.Barrier(threads + 1)

    def begin() -> None:
        set_stop_event(stop)
        torch.get_num_threads()  # otherwise the thread's first computation would reset what follows
        torch.set_num_threads(1)
        begun.wait()

    pool = ThreadPoolExecutor(threads, initializer=begin)
    for _ in range(threads):
        pool.submit(int)
    begun.wait()
    torch.set_num_threads(cores)
    return pool


def _await(future: Future[T]) -> Future[T]:
    future.exception()  # waits
    return future
