"""Draws of boxes: equal probabilities, strata of class and score, prefixes that are random too."""

from itertools import pairwise

import numpy as np
import pytest

from mining.quality.sampling import DRAWS_PER_CLASS, draw_boxes, stratify


def population(boxes: int = 400, classes: int = 6, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Classes of falling frequency, and scores."""
    random = np.random.default_rng(seed)
    shares = 1 / np.arange(1, classes + 1)
    return random.choice(classes, boxes, p=shares / shares.sum()), random.random(boxes)


@pytest.mark.parametrize("draws", [1, 7, 50, 200, 399])
def test_every_box_has_the_same_probability(draws: int) -> None:
    category, score = population()
    strata, random, repeats = stratify(category, score, draws), np.random.default_rng(1), 3000
    times = np.zeros(len(category))
    for _ in range(repeats):
        times[draw_boxes(strata, draws, random)] += 1
    expected = draws / len(category)
    spread = np.sqrt(repeats * expected * (1 - expected)) + 1e-9
    assert times.sum() == repeats * draws
    assert np.abs(times - repeats * expected).max() < 5 * spread + 3


@pytest.mark.parametrize("draws", [1, 20, 400, 1000])
def test_no_box_is_drawn_twice_and_all_are_if_there_are_fewer(draws: int) -> None:
    category, score = population()
    drawn = draw_boxes(stratify(category, score, draws), draws, np.random.default_rng(0))
    assert len(drawn) == len(set(drawn.tolist())) == min(draws, 400)


def test_strata_divide_frequent_classes_by_score_and_pool_the_rare_ones() -> None:
    category, score = population()
    strata, draws = stratify(category, score, 50), 50
    frequent = [one for one in range(6) if draws * (category == one).mean() >= DRAWS_PER_CLASS]
    assert 0 < len(frequent) < 6
    for one in frequent:
        assert not set(strata[category == one]) & set(strata[category != one])
        own = [score[strata == number] for number in dict.fromkeys(strata[category == one])]
        own.sort(key=np.mean)
        assert all(low.max() <= high.min() for low, high in pairwise(own))
    assert sorted(set(strata.tolist())) == list(range(strata.max() + 1))


def test_each_stratum_has_its_share_of_the_draws() -> None:
    category, score = population()
    strata = stratify(category, score, 100)
    drawn = np.bincount(strata[draw_boxes(strata, 100, np.random.default_rng(3))], minlength=strata.max() + 1)
    assert np.abs(drawn - 100 * np.bincount(strata) / 400).max() < 1


def test_the_first_boxes_of_a_draw_are_a_random_draw_too() -> None:
    category, score = population()
    strata, random = stratify(category, score, 60), np.random.default_rng(2)
    firsts = np.concatenate([draw_boxes(strata, 60, random)[:10] for _ in range(2000)])
    assert score[firsts].mean() == pytest.approx(score.mean(), abs=0.01)
    assert np.bincount(category[firsts], minlength=6) / len(firsts) == pytest.approx(
        np.bincount(category, minlength=6) / 400, abs=0.015
    )


def test_a_seed_gives_the_same_draw_and_no_box_gives_none() -> None:
    category, score = population()
    strata = stratify(category, score, 30)
    first, second = (draw_boxes(strata, 30, np.random.default_rng(5)) for _ in range(2))
    assert first.tolist() == second.tolist()
    empty = np.zeros(0, np.int64)
    assert len(draw_boxes(stratify(empty, np.zeros(0), 10), 10, np.random.default_rng(0))) == 0
