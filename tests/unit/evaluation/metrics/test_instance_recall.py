"""Recall of true boxes at a number of false positives per image, by hand and on resampled images."""

import numpy as np
import pytest

from mining.evaluation.boxes import Detections, TruthBoxes, compute_overlaps
from mining.evaluation.metrics.instance_recall import InstanceRecall, is_false_positive
from tests.unit.evaluation.by_hand import predicted_of, truth_of

BOX = (0, 0, 10, 10)
FAR = (50, 50, 10, 10)


def test_a_box_on_a_difficult_object_is_no_false_positive() -> None:
    truth = truth_of((0, 0, BOX), (0, 0, FAR), ignored=(1,))
    inside, half_out, on_nothing = (52, 52, 3, 3), (55, 50, 12, 10), (20, 20, 5, 5)
    rows = [((0, 0, box), 0.5) for box in (BOX, FAR, inside, half_out, on_nothing)]
    assert is_false_positive(compute_overlaps(truth, predicted_of(*rows))).tolist() == [False, False, False, True, True]


def test_a_class_that_the_image_lacks_is_a_false_positive() -> None:
    assert is_false_positive(compute_overlaps(truth_of((0, 0, BOX)), predicted_of(((0, 1, BOX), 0.9)))).tolist() == [
        True
    ]


@pytest.mark.parametrize(
    ("per_image", "recall"),
    [(0, 1 / 3), (0.5, 2 / 3), (0.9, 2 / 3), (1, 2 / 3), (1.5, 1), (9, 1)],
)
def test_recall_at_a_number_of_false_positives_uses_the_boxes_of_highest_score(per_image: float, recall: float) -> None:
    truth = truth_of((0, 0, BOX), (1, 0, BOX), (1, 0, FAR), (1, 1, FAR), ignored=(3,))
    on_difficult_box = (1, 1, FAR)
    ranked = [((0, 0, BOX), 0.9), (on_difficult_box, 0.8), ((0, 1, BOX), 0.7), ((1, 0, BOX), 0.6)]
    tied = [((0, 1, FAR), 0.5), ((1, 0, FAR), 0.5), ((1, 1, BOX), 0.5)]  # all or none
    predicted = predicted_of(*reversed(ranked + tied))
    assert InstanceRecall(truth, predicted).at(2, per_image=per_image) == pytest.approx(recall)


def test_recall_at_a_number_of_false_positives_of_no_boxes() -> None:
    truth, none = truth_of((0, 0, BOX)), predicted_of()
    assert InstanceRecall(truth, none).at(1) == 0
    nothing, some = truth_of(), predicted_of(((0, 0, BOX), 0.5))
    assert InstanceRecall(nothing, some).at(1) is None


def test_recall_of_a_resample_is_that_of_its_images_written_out() -> None:
    rng = np.random.default_rng(0)
    images, objects, boxes = 6, 14, 40
    truth = TruthBoxes(
        rng.integers(0, images, objects),
        rng.integers(0, 2, objects),
        _random_boxes(rng, objects),
        is_ignored=rng.random(objects) < 0.2,
    )
    predicted = Detections(
        rng.integers(0, images, boxes),
        rng.integers(0, 2, boxes),
        _random_boxes(rng, boxes),
        rng.integers(0, 9, boxes) / 9,
    )
    recall, values = InstanceRecall(truth, predicted), set()
    for _ in range(20):
        drawn = rng.integers(0, images, images)
        rows = [np.flatnonzero(truth.image == image) for image in drawn]
        found = [np.flatnonzero(predicted.image == image) for image in drawn]
        places, others = np.concatenate(rows), np.concatenate(found)
        written_out = InstanceRecall(
            TruthBoxes(
                np.repeat(np.arange(images), [len(one) for one in rows]), truth.category[places], truth.xywh[places],
                is_ignored=truth.is_ignored[places],
            ),
            Detections(
                np.repeat(np.arange(images), [len(one) for one in found]), predicted.category[others],
                predicted.xywh[others], predicted.scores[others],
            ),
        ).at(images)  # fmt: skip
        assert recall.at(images, times=np.bincount(drawn, minlength=images)) == written_out
        values.add(written_out)
    assert len(values) > 5


def test_the_interval_is_that_of_the_resampled_images() -> None:
    rows = [(image, 0, BOX) for image in range(40)]
    found = InstanceRecall(truth_of(*rows), predicted_of(*((row, 0.5) for row in rows[:30])))
    assert found.at(40) == 0.75
    low, high = found.interval(40, seed=0, resamples=1000) or (1, 0)
    deviation = (0.75 * 0.25 / 40) ** 0.5
    assert (low, high) == pytest.approx((0.75 - 1.96 * deviation, 0.75 + 1.96 * deviation), abs=0.03)
    assert found.interval(40, seed=0, resamples=0) is None
    assert InstanceRecall(truth_of(), predicted_of()).interval(40, seed=0, resamples=10) is None


def _random_boxes(rng: np.random.Generator, number: int) -> np.ndarray:
    return np.concatenate([rng.integers(0, 3, (number, 2)), rng.integers(5, 9, (number, 2))], axis=1).astype(float)
