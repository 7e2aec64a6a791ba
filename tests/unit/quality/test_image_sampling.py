"""Draws of whole images."""

import numpy as np
import pytest

from mining.quality.image_sampling import draw_images, draws_per_stratum, inclusion_probabilities, stratify_images

BOXES = np.repeat([0, 1, 2, 3, 5, 9], [20, 100, 50, 20, 8, 2])
NONE = np.zeros(0, np.int64)


def test_strata_ascend_with_the_number_of_boxes_and_have_no_gap() -> None:
    strata = stratify_images(BOXES)
    assert (np.diff(strata) >= 0).all()
    assert set(strata) == set(range(strata.max() + 1))
    assert all(len(set(strata[count == BOXES])) == 1 for count in set(BOXES))
    assert strata.max() >= 3
    assert not len(stratify_images(NONE))
    assert set(stratify_images(np.zeros(5, np.int64))) == {0}


@pytest.mark.parametrize("draws", [1, 12, 50, 150, 200, 500])
def test_each_stratum_gets_some_draws_and_never_more_than_it_has(draws: int) -> None:
    strata = stratify_images(BOXES)
    wanted = draws_per_stratum(BOXES, strata, draws)
    images = np.bincount(strata)
    assert (wanted <= images).all()
    assert (wanted >= np.minimum(images, 2)).all()
    assert wanted.sum() == min(len(BOXES), max(draws, 2 * len(images)))


def test_the_share_that_is_drawn_grows_with_the_boxes() -> None:
    strata = stratify_images(BOXES)
    share = draws_per_stratum(BOXES, strata, 60) / np.bincount(strata)
    assert (np.diff(share) > 0).all()


def test_every_image_of_a_stratum_is_drawn_equally_often_also_in_a_second_draw() -> None:
    strata = stratify_images(BOXES)
    counts = np.zeros(len(BOXES))
    for seed in range(400):
        random = np.random.default_rng(seed)
        first = draw_images(strata, draws_per_stratum(BOXES, strata, 30), NONE, random)
        second = draw_images(strata, draws_per_stratum(BOXES, strata, 60), first, random)
        drawn = np.concatenate([first, second])
        assert len(set(drawn)) == len(drawn)
        counts[drawn] += 1
    share = inclusion_probabilities(strata, drawn)
    for stratum in range(strata.max() + 1):
        members = strata == stratum
        expected = share[members][0]
        assert np.abs(counts[members] / 400 - expected).max() < 0.11
        assert (counts[members] / 400).mean() == pytest.approx(expected)
