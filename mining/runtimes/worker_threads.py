"""Worker threads of inference, in which torch and NumPy use one core each.

They decode images and extract boxes, and on a CPU run the network, too. A layer that several cores share waits for the
slowest of them: while other programs used the cores, two threads in one pass took up to eight times as long as two
passes of one thread each.
"""

import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from typing import Any, Generic, TypeVar

import torch
from threadpoolctl import ThreadpoolController

from mining.corpus.images.image_file import set_stop_event

T = TypeVar("T")
R = TypeVar("R")
MAX_THREADS = 8  # by default; more of them wait for Python's interpreter lock


class InferenceThreadPool(Generic[R]):
    """A pool of threads that compute with one core each.

    Args:
        threads: Number of threads.
    """

    def __init__(self, threads: int) -> None:
        self._pending: deque[Future[R]] = deque()
        self._stop = threading.Event()
        self._cores = torch.get_num_threads()
        # of NumPy: its own threads would wait for further work in a loop, and take the cores from these ones
        self._blas = _blas_libraries().limit(limits=1, user_api="blas")
        self._pool = _pool(threads, self._stop)

    def __enter__(self) -> "InferenceThreadPool[R]":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            self._stop.set()
        self._pool.shutdown(wait=kind is None, cancel_futures=True)
        self._blas.restore_original_limits()
        torch.set_num_threads(self._cores)

    def map_ordered(self, work: Callable[[int, Any], T], items: Sequence[Any], *, ahead: int) -> Iterator[Future[T]]:
        """Yield the finished futures of `work(place, item)` in order, computing at most about `ahead` in advance."""
        queue: deque[Future[T]] = deque()
        for one in enumerate(items):
            queue.append(self._pool.submit(work, *one))
            if len(queue) > ahead:
                yield _await(queue.popleft())
        while queue:
            yield _await(queue.popleft())

    def submit(self, work: Callable[..., R], *args: Any) -> None:
        """Schedule work; `results` yields its result."""
        self._pending.append(self._pool.submit(work, *args))

    def results(self, *, behind: int = 0) -> Iterator[R]:
        """Yield results of `submit` in order, waiting while more than `behind` are pending; 0 waits for all."""
        while self._pending and (len(self._pending) > behind or self._pending[0].done()):
            yield self._pending.popleft().result()


@contextmanager
def restored_threads() -> Iterator[None]:
    """Restore torch's number of threads at the end of the block, which may change it."""
    cores = torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads(cores)


@cache
def _blas_libraries() -> ThreadpoolController:
    return ThreadpoolController()


def _pool(threads: int, stop: threading.Event) -> ThreadPoolExecutor:
    """Return started threads in which torch uses one core each, and whose long work ends once `stop` is set.

    The calling thread uses one core, too, until the pool is left: its number is also that of the matrix products of all
    threads.
    """
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
    torch.set_num_threads(1)
    return pool


def _await(future: Future[T]) -> Future[T]:
    future.exception()  # waits
    return future
