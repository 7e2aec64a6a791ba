"""The number of objects and the recall, from images that were looked at whole."""

import numpy as np
import pytest

from mining.quality.image_sampling import draw_images, draws_per_stratum, stratify_images
from mining.quality.object_estimates import estimate_objects

NONE = np.zeros(0, np.int64)


def corpus(images: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mined boxes, objects, and found objects of each image; a few images have very many objects."""
    random = np.random.default_rng(seed)
    objects = 1 + random.poisson(random.gamma(0.8, 1.5, images))
    found = random.binomial(objects, 0.6)
    return found + random.poisson(0.4, images), objects.astype(float), found.astype(float)


@pytest.mark.parametrize("draws", [50, 200])
def test_intervals_cover_the_truth_about_as_often_as_they_say(draws: int) -> None:
    boxes, objects, found = corpus(600, 0)
    strata = stratify_images(boxes)
    covered, values = [], []
    for seed in range(300):
        random = np.random.default_rng(seed)
        places = draw_images(strata, draws_per_stratum(boxes, strata, draws), NONE, random)
        estimate = estimate_objects(boxes, places, objects[places], found[places])
        assert estimate is not None
        assert estimate.recall_ci95 is not None
        recall = found.sum() / objects.sum()
        values.append(estimate.value)
        covered.append(
            (
                estimate.ci95[0] <= objects.sum() <= estimate.ci95[1],
                estimate.recall_ci95[0] <= recall <= estimate.recall_ci95[1],
            )
        )
    assert np.mean(values) == pytest.approx(objects.sum(), rel=0.02)
    assert (np.abs(np.mean(covered, axis=0) - 0.955) <= 0.03).all()


def test_images_that_all_have_one_object_leave_room_for_others() -> None:
    estimate = estimate_objects(np.zeros(1000, np.int64), np.arange(50), np.ones(50), np.ones(50))
    assert estimate is not None
    assert estimate.value == pytest.approx(1000)
    assert estimate.ci95[0] < 1000 < estimate.ci95[1]
    assert estimate.recall == 1
    assert estimate.recall_ci95 is not None
    assert 0.8 < estimate.recall_ci95[0] < 0.99


def test_no_object_in_the_images_bounds_their_number() -> None:
    estimate = estimate_objects(np.zeros(1000, np.int64), np.arange(50), np.zeros(50), np.zeros(50))
    assert estimate is not None
    assert estimate.value == 0
    assert estimate.ci95 == pytest.approx((0, 20 * 3.689), rel=1e-3)
    assert estimate.recall is None


def test_the_interval_starts_at_the_objects_that_were_counted() -> None:
    objects = np.array([30.0, 0, 0, 0, 0, 1])
    estimate = estimate_objects(np.zeros(8, np.int64), np.arange(6), objects, objects)
    assert estimate is not None
    assert estimate.ci95[0] >= 31


def test_strata_without_enough_images_are_merged() -> None:
    boxes = np.repeat([0, 3, 9], [10, 10, 10])
    estimate = estimate_objects(boxes, np.array([0, 1, 2, 10, 20, 21]), np.full(6, 2.0), np.ones(6))
    assert estimate is not None
    assert estimate.value == pytest.approx(60)


def test_few_images_give_no_estimate() -> None:
    assert estimate_objects(np.zeros(100, np.int64), np.arange(4), np.ones(4), np.ones(4)) is None
    assert estimate_objects(NONE, NONE, np.zeros(0), np.zeros(0)) is None
