"""Average precision with intervals over images and seeds, paired differences, and what mined boxes are worth."""

import numpy as np
import pytest

from mining.evaluation.boxes import Detections, TruthBoxes
from mining.evaluation.metrics.coco import coco_scores
from mining.evaluation.metrics.voc import average_precision
from mining.proof.figures import Precision, Resamples, difference, estimate, share
from mining.proof.worth import worth_of

IMAGES, CLASSES = 40, 3


def scene(seed: int = 0) -> tuple[TruthBoxes, Detections]:
    """True boxes, two per image, and detections of most of them among wrong ones."""
    rng = np.random.default_rng(seed)
    image = np.repeat(np.arange(IMAGES), 2)
    category = rng.integers(0, CLASSES, len(image))
    xywh = np.concatenate([rng.uniform(0, 60, (len(image), 2)), rng.uniform(10, 40, (len(image), 2))], axis=1)
    found = rng.random(len(image)) < 0.7
    shifted = xywh + np.concatenate([rng.normal(0, 3, (len(image), 2)), np.zeros((len(image), 2))], axis=1)
    wrong = np.concatenate([rng.uniform(0, 60, (30, 2)), rng.uniform(10, 40, (30, 2))], axis=1)
    predicted = Detections(
        np.concatenate([image[found], rng.integers(0, IMAGES, 30)]),
        np.concatenate([category[found], rng.integers(0, CLASSES, 30)]),
        np.concatenate([shifted[found], wrong]),
        rng.random(found.sum() + 30),
    )
    return TruthBoxes(image, category, xywh), predicted


def test_precision_is_that_of_the_score_command(capsys: pytest.CaptureFixture[str]) -> None:
    truth, predicted = scene()
    found = Resamples(IMAGES, 200).measure(truth, predicted)
    assert found.ap50 == average_precision(truth, predicted)["AP_all_point"]
    assert found.ap == coco_scores(truth, predicted, list("abc"))["AP"]
    assert found.resampled_ap50.shape == found.resampled_ap.shape == (200,)
    assert found.resampled_ap50.std() > 0
    assert found.resampled_ap50.mean() == pytest.approx(found.ap50, abs=0.05)
    assert found.resampled_ap.mean() == pytest.approx(found.ap, abs=0.05)


def test_a_resample_counts_an_image_as_often_as_it_was_drawn() -> None:
    truth, predicted = scene()
    resamples = Resamples(IMAGES, 100)
    resamples.counts[0] = np.arange(IMAGES) < 20  # the first half, each image once
    half = average_precision(truth.where(truth.image < 20), predicted.where(predicted.image < 20))["AP_all_point"]
    found = resamples.measure(truth, predicted)
    assert found.resampled_ap50[0] == pytest.approx(half)
    some = coco_scores(truth.where(truth.image < 20), predicted.where(predicted.image < 20), list("abc"))["AP"]
    assert found.resampled_ap[0] == pytest.approx(some)


def precision(value: float, noise: np.ndarray) -> Precision:
    return Precision(value, value / 2, value + noise, value / 2 + noise)


def test_intervals_cover_images_and_seeds_and_differences_are_paired() -> None:
    noise = np.random.default_rng(1).normal(0, 0.05, 1000)  # of the images: the same for all detectors
    low = {seed: precision(0.3 + 0.01 * seed, noise) for seed in range(3)}
    high = {seed: precision(0.4 + 0.01 * seed, noise) for seed in range(3)}
    assert estimate(list(low.values())).value == pytest.approx(0.31)
    assert estimate(list(low.values())).by_seed == pytest.approx((0.3, 0.31, 0.32))
    found = difference(low, high)
    assert found.value == pytest.approx(0.1)
    assert found.ci95 == pytest.approx((0.1, 0.1)), "what images and seeds have in common does not count"
    assert difference(low, {1: high[1]}).by_seed == pytest.approx((0.1,)), "only seeds of both"
    assert share(high, low).value == pytest.approx(0.31 / 0.41)
    one_seed = estimate([low[0]]).ci95
    spread = estimate([precision(0.2, noise), precision(0.4, noise)]).ci95
    assert spread[1] - spread[0] > one_seed[1] - one_seed[0], "seeds that differ widen the interval"


@pytest.mark.parametrize(
    ("mined", "worth", "said"),
    [
        (0.3, 100, "about 100 true boxes"),
        (0.35, 141, "about 141 true boxes"),  # halfway in the logarithm between 100 and 200
        (0.1, None, "fewer than 50 true boxes, the smallest number that was tried"),
        (0.9, None, "more than 200 true boxes, the largest number that was tried"),
    ],
)
def test_mined_boxes_are_worth_the_true_boxes_that_lead_as_far(mined: float, worth: int | None, said: str) -> None:
    none = np.zeros(100)
    curve = [(50, {0: precision(0.2, none)}), (100, {0: precision(0.3, none)}), (200, {0: precision(0.4, none)})]
    found = worth_of({0: precision(mined, none)}, curve)
    assert found.true_boxes == worth
    assert said in found.text
    assert found.tried == (50, 200)


def test_the_interval_of_the_worth_stays_within_what_was_tried() -> None:
    noise = np.random.default_rng(0).normal(0, 0.1, 500)
    none = np.zeros(500)
    curve = [(50, {0: precision(0.2, none)}), (200, {0: precision(0.4, none)})]
    found = worth_of({0: precision(0.3, noise)}, curve)
    assert found.ci95 == (50, 200)
    assert "50 or fewer to 200 or more" in found.text


def test_a_number_that_led_to_less_than_a_smaller_one_is_no_better() -> None:
    none = np.zeros(100)
    curve = [(n, {0: precision(value, none)}) for n, value in ((50, 0.2), (100, 0.4), (200, 0.3), (400, 0.5))]
    assert worth_of({0: precision(0.4, none)}, curve).true_boxes == 100
    assert 200 < (worth_of({0: precision(0.45, none)}, curve).true_boxes or 0) < 400
