"""Threshold curves against mining at each threshold, and thresholds per map against an exhaustive search."""

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mining.boxes.boxes import Boxes, filter_mask
from mining.config.mine import CURVE_THRESHOLDS
from mining.errors import MapError
from mining.regions.extraction import boxes_from_map, normalise_map
from mining.regions.map_thresholds import entropy_threshold, grey_level_shares, otsu_threshold
from mining.regions.threshold_curves import BoxesWithCurve, MapWithCurve, ThresholdCurve, curve_row
from mining.runs.schema import CURVE_SCHEMA


def hills(seed: int, height: int = 40, width: int = 60) -> np.ndarray:
    coarse = np.random.default_rng(seed).normal(size=(6, 8)).astype(np.float32)
    return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)


def extract_with_curve(
    activation: np.ndarray, rate: Any, *, threshold: Any = 0.3, normalise: Any = "max", score: Any = "peak", **how: Any
) -> BoxesWithCurve:
    return MapWithCurve(activation, threshold=threshold, normalise=normalise, score=score).extract(rate, **how)


def curve_of(activation: np.ndarray, **how: Any) -> ThresholdCurve:
    return extract_with_curve(activation, **how).curve


def everything(boxes: Boxes) -> tuple[np.ndarray, np.ndarray]:
    return np.ones(len(boxes), bool), boxes.score


# --- the box at every threshold --------------------------------------------------------------------------------------


@given(
    seed=st.integers(0, 1000),
    normalise=st.sampled_from(["max", "minmax"]),
    least=st.sampled_from([0.0, 0.02, 0.2]),
    score=st.sampled_from(["peak", "area"]),
)
@settings(max_examples=80, deadline=None)
def test_a_curve_has_the_best_box_of_mining_at_each_threshold(
    seed: int, normalise: Any, least: float, score: Any
) -> None:
    activation = hills(seed)

    def passes(boxes: Boxes) -> np.ndarray:
        return filter_mask(boxes, width=60, height=40, min_area=least, max_borders=2)

    curve = curve_of(activation, normalise=normalise, score=score, rate=lambda boxes: (passes(boxes), boxes.score))
    assert curve.map_size == (60, 40)
    for threshold, box, count in zip(CURVE_THRESHOLDS, curve.xyxy, curve.boxes, strict=True):
        mined = boxes_from_map(activation, threshold=threshold, normalise=normalise, score=score)
        mined = mined[passes(mined)]
        assert len(mined) == count
        assert box.tolist() == (mined.xyxy[0].tolist() if len(mined) else [0, 0, 0, 0])


def test_the_best_box_of_a_curve_is_the_one_with_the_highest_score() -> None:
    activation = np.zeros((20, 40), np.float32)
    activation[4:8, 4:8], activation[4:14, 20:34] = 1.0, 0.8

    def prefer_large(boxes: Boxes) -> tuple[np.ndarray, np.ndarray]:
        return everything(boxes)[0], (boxes.xyxy[:, 2] - boxes.xyxy[:, 0]).astype(np.float32)

    curve = curve_of(activation, normalise="max", rate=prefer_large)
    boxes = dict(zip(CURVE_THRESHOLDS, curve.xyxy.tolist(), strict=True))
    assert (boxes[0.5], boxes[0.9]) == ([20, 4, 34, 14], [4, 4, 8, 8])


@given(
    seed=st.integers(0, 1000), threshold=st.sampled_from([0.02, 0.3, 0.98]) | st.floats(0.001, 0.999, exclude_max=True)
)
@settings(max_examples=60, deadline=None)
def test_the_boxes_of_the_single_pass_equal_those_at_one_threshold(seed: int, threshold: float) -> None:
    """For thresholds on the grid and off it; the curve does not depend on the threshold."""
    activation = hills(seed)
    cut = extract_with_curve(activation, threshold=threshold, normalise="max", rate=everything)
    mined = boxes_from_map(activation, threshold=threshold)
    assert (cut.threshold, cut.boxes.xyxy.tolist(), cut.boxes.peak.tolist()) == (
        threshold, mined.xyxy.tolist(), mined.peak.tolist(),
    )  # fmt: skip
    assert cut.boxes.mean_activation.tolist() == mined.mean_activation.tolist()
    curve = curve_of(activation, normalise="max", rate=everything)
    assert (cut.curve.xyxy == curve.xyxy).all()
    assert (cut.curve.boxes == curve.boxes).all()


@pytest.mark.parametrize("activation", [np.zeros((20, 30), np.float32), np.full((20, 30), -1, np.float32)])
def test_a_constant_map_has_an_empty_curve(activation: np.ndarray) -> None:
    curve = curve_of(activation, normalise="max", rate=everything)
    assert not curve.xyxy.any()
    assert not curve.boxes.any()
    assert (curve.otsu, curve.entropy) == (0, 0)


def test_a_map_with_nan_has_no_curve() -> None:
    with pytest.raises(MapError, match="NaN or infinity"):
        curve_of(np.full((4, 4), np.nan, np.float32), normalise="max", rate=everything)


def test_a_curve_row_matches_the_schema() -> None:
    row = curve_row(
        curve_of(hills(1), normalise="max", rate=everything), image_id=7, category_id=3, width=120, height=80
    )
    assert list(row) == CURVE_SCHEMA.names
    assert len(row["xyxy"]) == 4 * len(CURVE_THRESHOLDS)
    assert CURVE_SCHEMA.metadata[b"thresholds"].decode().split(",")[:2] == ["0.02", "0.04"]


def test_region_counts_are_capped_at_255() -> None:
    dots = np.zeros((120, 120), np.float32)
    dots[2::6, 2::6] = dots[3::6, 2::6] = dots[2::6, 3::6] = dots[3::6, 3::6] = 1
    curve = curve_of(dots, normalise="max", rate=everything)
    assert set(curve.boxes.tolist()) == {400}
    row = curve_row(curve, image_id=1, category_id=1, width=120, height=120)
    assert set(row["boxes"]) == {255}


# --- thresholds chosen per map ---------------------------------------------------------------------------------------


def greys_of(activation: np.ndarray) -> np.ndarray:
    level = normalise_map(activation, "max")
    assert level is not None
    return (level * 255).astype(np.uint8).ravel().astype(np.float64)


@given(seed=st.integers(0, 1000))
@settings(max_examples=15, deadline=None)
def test_otsu_maximises_the_variance_between_the_sides(seed: int) -> None:
    greys = greys_of(hills(seed))

    def variance(first: int) -> float:
        over = greys >= first
        share = over.mean()
        return share * (1 - share) * (greys[over].mean() - greys[~over].mean()) ** 2 if 0 < share < 1 else 0.0

    found = round(255 * otsu_threshold(grey_level_shares(normalise_map(hills(seed), "max"))))
    assert variance(found) == pytest.approx(max(variance(first) for first in range(1, 256)))


@given(seed=st.integers(0, 1000))
@settings(max_examples=30, deadline=None)
def test_otsu_agrees_with_opencv(seed: int) -> None:
    level = normalise_map(hills(seed), "max")
    below, _ = cv2.threshold((level * 255).astype(np.uint8), 0, 255, cv2.THRESH_OTSU)
    assert otsu_threshold(grey_level_shares(level)) == pytest.approx((below + 1) / 255)


@pytest.mark.parametrize("told", [otsu_threshold, entropy_threshold])
@pytest.mark.parametrize("value", [0.0, 0.4, 1.0])
def test_one_grey_level_gives_no_threshold(told: Callable[[np.ndarray], float], value: float) -> None:
    assert told(grey_level_shares(np.full((3, 5), value, np.float32))) == 0


@given(seed=st.integers(0, 1000))
@settings(max_examples=15, deadline=None)
def test_the_entropy_threshold_maximises_the_sum_of_the_entropies(seed: int) -> None:
    greys = greys_of(hills(seed))

    def entropy(side: np.ndarray) -> float:
        share = np.unique(side, return_counts=True)[1] / len(side)
        return float(-(share * np.log(share)).sum())

    def both(first: int) -> float:
        over = greys >= first
        return entropy(greys[over]) + entropy(greys[~over]) if 0 < over.mean() < 1 else -np.inf

    found = round(255 * entropy_threshold(grey_level_shares(normalise_map(hills(seed), "max"))))
    assert both(found) == pytest.approx(max(both(first) for first in range(1, 256)))


def test_two_grey_levels_are_separated_between_them() -> None:
    level = np.full((10, 10), 0.2, np.float32)
    level[3:6, 3:6] = 1
    for told in (otsu_threshold(grey_level_shares(level)), entropy_threshold(grey_level_shares(level))):
        assert 0.2 < told <= 1
        assert (level >= told).sum() == 9
