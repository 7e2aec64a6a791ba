"""A queue gives the same targets, whether it is a list or an array of ids."""

from itertools import pairwise

import numpy as np
import pytest

from mining.review.orders import BoxOrder, Order, Target, TargetOrder

IDS = [7, 3, 12, 1]


@pytest.fixture(params=["list", "array"])
def order(request: pytest.FixtureRequest) -> Order:
    if request.param == "list":
        return TargetOrder([Target("box", one) for one in IDS])
    return BoxOrder(np.array(IDS))


def numbers(order: Order, after: int | None = None) -> list[int]:
    return [one.number for one in order.after(None if after is None else ("box", after))]


def test_it_begins_after_a_target_and_goes_once_around(order: Order) -> None:
    assert numbers(order) == IDS
    for before, after in pairwise(IDS):
        assert numbers(order, before)[0] == after
        assert sorted(numbers(order, before)) == sorted(IDS)
    assert numbers(order, IDS[-1]) == IDS
    assert numbers(order, 5) == IDS, "an unknown target is no beginning"


def test_targets_are_found_by_kind_and_number(order: Order) -> None:
    assert len(order) == 4
    assert order.find(("box", 12)) == Target("box", 12)
    assert order.find(("box", 2)) is None
    assert order.find(("box", 100)) is None
    assert order.find(("image", 7)) is None


def test_an_empty_order_has_nothing() -> None:
    empty = BoxOrder(np.array([], int))
    assert (len(empty), list(empty.after(("box", 1))), empty.find(("box", 1))) == (0, [], None)
