"""InferenceThreadPool: all work runs once and in order, in threads of one core each."""

import threading
import time
from typing import Any

import pytest
import torch

from mining.runtimes.worker_threads import InferenceThreadPool


@pytest.mark.parametrize("ahead", [1, 3, 100])
def test_results_are_returned_in_input_order(ahead: int) -> None:
    def slowest_first(place: int, item: str) -> tuple[int, str]:
        time.sleep(0.02 if place % 3 == 0 else 0)
        return place, item

    with InferenceThreadPool[None](2) as pool:
        found = [one.result() for one in pool.map_ordered(slowest_first, "abcdefgh", ahead=ahead)]
    assert found == list(enumerate("abcdefgh"))


def test_submitted_work_runs_once_and_returns_in_order() -> None:
    done: list[int] = []
    with InferenceThreadPool[int](2) as pool:
        for one in pool.map_ordered(lambda place, item: item, range(20), ahead=4):
            pool.submit(lambda number: number * number, one.result())
            done += pool.results(behind=5)
        done += pool.results()
    assert done == [number * number for number in range(20)]


def test_work_runs_while_the_caller_does_other_work() -> None:
    begun = threading.Event()
    with InferenceThreadPool[None](1) as pool:
        pool.submit(begun.set)
        assert begun.wait(5)


def test_an_error_is_raised_when_its_result_is_requested() -> None:
    def fail(*_: Any) -> None:
        raise ValueError("on purpose")

    with InferenceThreadPool[None](2) as pool:
        (one,) = pool.map_ordered(fail, [1], ahead=1)
        assert isinstance(one.exception(), ValueError)
        pool.submit(fail)
        with pytest.raises(ValueError, match="on purpose"):
            list(pool.results())


def test_an_interrupt_cancels_pending_work() -> None:
    done: list[int] = []

    def slow(number: int) -> None:
        time.sleep(0.02)
        done.append(number)

    def interrupted() -> None:
        with InferenceThreadPool[None](1) as pool:
            for number in range(200):
                pool.submit(slow, number)
            raise KeyboardInterrupt

    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert time.monotonic() - started < 2
    assert len(done) < 100


def test_torch_uses_one_core_per_thread_in_the_pool_and_as_many_as_before_after_it() -> None:
    before = torch.get_num_threads()
    for cores in (3, 1):
        torch.set_num_threads(cores)
        with InferenceThreadPool[int](2) as pool:
            inside = [one.result() for one in pool.map_ordered(lambda *_: torch.get_num_threads(), range(4), ahead=4)]
            assert inside == [1] * 4
            assert torch.get_num_threads() == 1
        assert torch.get_num_threads() == cores
    torch.set_num_threads(before)
