"""Signals of boxes on small runs, by hand."""

import numpy as np
import pytest

from mining.errors import RunError
from mining.quality.schema import QUALITY_SCHEMA, SIGNALS
from mining.quality.signals import compute_signals


def test_every_column_says_its_unit_and_meaning() -> None:
    for field in QUALITY_SCHEMA:
        assert field.metadata[b"meaning"]
        assert b"unit" in field.metadata


def test_a_stable_box_has_a_stability_of_one_and_a_shrinking_one_less(small) -> None:
    small.boxes = [("a.jpg", "cat", (20, 20, 40, 40), {}), ("b.jpg", "cat", (20, 20, 40, 40), {})]
    small.curves = [
        ("a.jpg", "cat", lambda _: (20, 20, 40, 40), lambda _: 1),
        ("b.jpg", "cat", lambda t: (20, 20, 40, 40) if t < 0.61 else (20, 20, 20, 40), lambda t: 1 if t < 0.7 else 3),
    ]
    signals = compute_signals(small.write())
    assert signals["threshold_stability"].to_pylist()[0] == pytest.approx(1)
    # thresholds 0.30, 0.32, ... 0.70: 16 with the whole box, 5 with its half
    assert signals["threshold_stability"].to_pylist()[1] == pytest.approx((16 + 5 * 0.5) / 21)
    assert signals["loose_iou"].to_pylist() == pytest.approx([1, 1])
    assert signals["tight_iou"].to_pylist() == pytest.approx([1, 0.5])
    assert signals["regions_above"].to_pylist() == [1, 3]


def test_a_box_that_the_curve_does_not_follow_has_no_stability_but_a_number_of_regions(small) -> None:
    small.boxes = [("a.jpg", "cat", (20, 20, 40, 40), {}), ("a.jpg", "cat", (70, 70, 20, 20), {"score": 0.1})]
    small.curves = [("a.jpg", "cat", lambda _: (20, 20, 40, 40), lambda _: 2)]
    signals = compute_signals(small.write())
    assert signals["threshold_stability"].to_pylist() == [pytest.approx(1), None]
    assert signals["regions_above"].to_pylist() == [2, 2]


def test_without_curves_rankings_and_another_run_the_signals_are_null(small) -> None:
    small.boxes = [("a.jpg", "cat", (20, 20, 40, 40), {})]
    signals = compute_signals(small.write())
    for name in ("threshold_stability", "loose_iou", "tight_iou", "regions_above", "class_margin", "run_agreement"):
        assert signals[name].to_pylist() == [None], name
    assert signals["contrast"].to_pylist() == [2.0]


def test_border_contact_counts_edges(small) -> None:
    boxes = [(20, 20, 40, 40), (0, 20, 40, 40), (0, 0, 40, 100), (0, 0, 100, 100), (1.5, 1.5, 40, 40)]
    small.boxes = [(f"{i}.jpg", "cat", box, {}) for i, box in enumerate(boxes)]
    assert compute_signals(small.write())["border_contact"].to_pylist() == [0, 1, 3, 4, 0]


def test_size_and_aspect_are_compared_within_the_class(small) -> None:
    usual = [(0, 0, 20 + i, 20 + i) for i in range(5)]
    small.boxes = [(f"{i}.jpg", "cat", box, {}) for i, box in enumerate([*usual, (0, 0, 80, 20)])]
    small.boxes += [(f"{i}.jpg", "dog", (0, 0, 90, 90), {}) for i in range(4)]
    signals = compute_signals(small.write())
    size, aspect = (signals[name].to_pylist() for name in ("size_deviation", "aspect_deviation"))
    log_share = np.log([*(box[2] ** 2 for box in usual), 1600])
    centre = np.median(log_share)
    spread = max(1.4826 * np.median(np.abs(log_share - centre)), 0.1)
    assert size[:6] == pytest.approx(np.clip((log_share - centre) / spread, -5, 5), abs=1e-5)
    assert aspect[5] == 5  # log 4 over the smallest spread, clipped
    assert aspect[:5] == pytest.approx([0] * 5, abs=1e-6)
    assert size[6:] == [None] * 4  # too few dogs


def test_the_margin_is_over_the_best_class_that_has_no_box(small) -> None:
    small.boxes = [
        ("a.jpg", "cat", (0, 0, 20, 20), {"class_score": 0.6}),
        ("a.jpg", "dog", (50, 50, 20, 20), {"class_score": 0.7}),
        ("b.jpg", "cat", (0, 0, 20, 20), {"class_score": 0.6}),
    ]
    small.rankings = {"a.jpg": {"dog": 0.7, "cat": 0.6, "cow": 0.1}, "b.jpg": {"dog": 0.8, "cat": 0.6}}
    margins = compute_signals(small.write())["class_margin"].to_pylist()
    assert margins == pytest.approx([0.5, 0.6, -0.2], abs=1e-6)


def test_neighbours_in_the_same_image_alone_count(small) -> None:
    small.boxes = [
        ("a.jpg", "cat", (0, 0, 20, 20), {"score": 0.4}),
        ("a.jpg", "cat", (50, 50, 20, 20), {"score": 0.9}),
        ("a.jpg", "dog", (0, 0, 20, 10), {}),
        ("b.jpg", "dog", (0, 0, 20, 20), {}),
    ]
    signals = compute_signals(small.write())
    assert signals["other_class_iou"].to_pylist() == pytest.approx([0.5, 0, 0.5, 0])
    assert signals["class_boxes"].to_pylist() == [2, 2, 1, 1]
    assert signals["class_rank"].to_pylist() == [2, 1, 1, 1]


def test_agreement_is_with_boxes_of_the_same_class_of_images_that_both_mined(small, tmp_path) -> None:
    other = type(small)(tmp_path / "other", first_id=7)
    other.boxes = [("b.jpg", "cat", (0, 0, 20, 10), {}), ("b.jpg", "dog", (50, 50, 20, 20), {})]
    other.states = {"c.jpg": "no_region", "d.jpg": "quarantined"}
    small.boxes = [(f"{name}.jpg", "cat", (0, 0, 20, 20), {}) for name in "abcd"]
    small.boxes.append(("b.jpg", "cat", (50, 50, 20, 20), {}))
    agreement = compute_signals(small.write(), other.write())["run_agreement"].to_pylist()
    assert agreement == [None, pytest.approx(0.5), 0, None, 0]


def test_an_image_of_other_content_is_not_compared(small, tmp_path) -> None:
    other = type(small)(tmp_path / "other")
    other.boxes = [(name, "cat", (0, 0, 20, 20), {}) for name in ("a.jpg", "b.jpg")]
    small.boxes = list(other.boxes)
    small.hashes, other.hashes = {"a.jpg": "1" * 64, "b.jpg": "2" * 64}, {"a.jpg": "1" * 64, "b.jpg": "3" * 64}
    assert compute_signals(small.write(), other.write())["run_agreement"].to_pylist() == [1, None]


def test_a_run_of_other_images_is_refused(small, tmp_path) -> None:
    other = type(small)(tmp_path / "other")
    other.boxes = [("z.jpg", "cat", (0, 0, 20, 20), {})]
    small.boxes = [("a.jpg", "cat", (0, 0, 20, 20), {})]
    with pytest.raises(RunError, match="no image in common"):
        compute_signals(small.write(), other.write())


def test_a_run_without_boxes_has_signals_of_no_rows(small) -> None:
    small.states = {"a.jpg": "no_region"}
    signals = compute_signals(small.write())
    assert signals.num_rows == 0
    assert signals.column_names == ["annotation_id", *SIGNALS]
