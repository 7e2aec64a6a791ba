"""COCO's AP of resampled images equals that of ground truth that repeats the images."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mining.evaluation import Detections, TruthBoxes, coco_scores
from mining.evaluation.metrics.coco import RECALLS, match_detections
from mining.evaluation.metrics.coco_bootstrap import coco_intervals, resampling_state, weighted_precision

IMAGES, CLASSES = 5, 3


def drawn(rng: np.random.Generator) -> tuple[TruthBoxes, Detections]:
    """Objects, some ignored, and predictions near them; no two of one score, for copies would change their order."""
    objects, predictions = rng.integers(1, 40), rng.integers(0, 120)
    xywh = np.concatenate([rng.integers(0, 60, (objects, 2)), rng.integers(20, 120, (objects, 2))], axis=1)
    truth = TruthBoxes(
        rng.integers(0, IMAGES, objects), rng.integers(0, CLASSES, objects), xywh, is_ignored=rng.random(objects) < 0.2
    )
    of = rng.integers(0, objects, predictions)
    near = np.maximum(xywh[of] + rng.integers(-15, 16, (predictions, 4)), [0, 0, 1, 1])
    scores = rng.permutation(predictions) / 200
    return truth, Detections(truth.image[of], truth.category[of], near.astype(float), scores)


def repeated(truth: TruthBoxes, predicted: Detections, times: np.ndarray) -> tuple[TruthBoxes, Detections]:
    """Both with image i there times[i] times, each copy an image of its own."""
    copies = [(i, n) for i in range(IMAGES) for n in range(times[i])]

    def rows(image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        of = [np.flatnonzero(image == i) for i, _ in copies]
        return np.concatenate([*of, np.zeros(0, int)]), np.repeat(np.arange(len(copies)), [len(one) for one in of])

    kept, image = rows(truth.image)
    again, seen = rows(predicted.image)
    return (
        TruthBoxes(image, truth.category[kept], truth.xywh[kept], is_ignored=truth.is_ignored[kept]),
        Detections(seen, predicted.category[again], predicted.xywh[again], predicted.scores[again]),
    )


@given(seed=st.integers(0, 100_000), times=st.lists(st.integers(0, 3), min_size=IMAGES, max_size=IMAGES))
@settings(max_examples=150, deadline=None)
def test_an_image_drawn_twice_counts_twice(seed: int, times: list[int]) -> None:
    truth, predicted = drawn(np.random.default_rng(seed))
    count = np.array(times)
    told = weighted_precision(count, *resampling_state(truth, match_detections(truth, predicted)), RECALLS)
    real = coco_scores(*repeated(truth, predicted, count), "abc")
    assert told.mean() == pytest.approx(real["AP"] or 0, abs=1e-12)
    assert told[0] == pytest.approx(real["AP50"] or 0, abs=1e-12)


def test_the_interval_holds_the_number_and_is_the_same_again() -> None:
    truth, predicted = drawn(np.random.default_rng(7))
    matches, numbers = match_detections(truth, predicted), coco_scores(truth, predicted, "abc")
    found = coco_intervals(truth, matches, seed=1, resamples=300)
    assert found == coco_intervals(truth, matches, seed=1, resamples=300)
    for name, interval in zip(("AP", "AP50"), found, strict=True):
        low, high = interval or (1, 0)
        assert 0 <= low < numbers[name] < high <= 1


def test_without_objects_or_resamples_there_is_no_interval() -> None:
    truth, predicted = drawn(np.random.default_rng(7))
    assert coco_intervals(truth, match_detections(truth, predicted), seed=0, resamples=0) == (None, None)
    nothing = truth.where(np.zeros(len(truth), bool))
    assert coco_intervals(nothing, match_detections(nothing, predicted), seed=0, resamples=9) == (None, None)
