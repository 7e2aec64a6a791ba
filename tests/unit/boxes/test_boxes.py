import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import ArrayLike
from torchvision.ops import nms

from mining.boxes.boxes import MERGERS, Boxes, filter_mask, merge_nms, merge_wbf
from mining.boxes.iou import iou_matrix

FIELDS = ("xyxy", "score", "peak", "mean_activation", "merged_from")


def boxes(xyxy: ArrayLike, score: ArrayLike, merged_from: ArrayLike | None = None) -> Boxes:
    scores = np.array(score, np.float32)
    counts = np.ones(len(scores)) if merged_from is None else merged_from
    return Boxes(np.array(xyxy, np.float32).reshape(-1, 4), scores, scores, scores / 2, np.array(counts, np.int32))


def equal(first: Boxes, second: Boxes) -> bool:
    return all(np.array_equal(getattr(first, name), getattr(second, name)) for name in FIELDS)


@st.composite
def crowds(draw: st.DrawFn, most: int = 12) -> Boxes:
    """Boxes on a coarse grid with coarse scores, so that ties and IoUs at the limit are common."""
    count = draw(st.integers(0, most))
    corner, side = st.integers(0, 12), st.integers(1, 10)
    rows = draw(st.lists(st.tuples(corner, corner, side, side), min_size=count, max_size=count))
    scores = draw(st.lists(st.sampled_from([0.2, 0.5, 0.9]), min_size=count, max_size=count))
    return boxes([(x, y, x + w, y + h) for x, y, w, h in rows], scores)


overlaps = st.sampled_from([0.0, 0.1, 0.2, 0.3, 0.5, 0.6, 0.9])


# --- the data class --------------------------------------------------------------------------------------------------


def test_an_empty_collection_of_boxes_is_valid() -> None:
    none = Boxes.empty()
    assert len(none) == 0
    assert none.xyxy.shape == (0, 4)
    assert {getattr(none, name).dtype for name in FIELDS[:4]} == {np.dtype(np.float32)}
    assert len(none.best_first()) == 0


@pytest.mark.parametrize("shape", [(4,), (2, 5), (2, 2, 4)])
def test_boxes_of_the_wrong_shape_are_refused(shape: tuple[int, ...]) -> None:
    two = np.zeros(2, np.float32)
    with pytest.raises(ValueError, match=r"xyxy must have shape \(n, 4\)"):
        Boxes(np.zeros(shape, np.float32), two, two, two, np.ones(2, np.int32))


@pytest.mark.parametrize("wrong", FIELDS[1:])
def test_the_error_for_a_column_of_the_wrong_length_names_it(wrong: str) -> None:
    columns = {name: np.zeros(3 if name == wrong else 2) for name in FIELDS[1:]}
    with pytest.raises(ValueError, match=rf"{wrong} must have shape \(2,\), has \(3,\)"):
        Boxes(np.zeros((2, 4), np.float32), **columns)


def test_rows_are_selected_by_mask_and_by_index() -> None:
    three = boxes([(0, 0, 1, 1), (0, 0, 2, 2), (0, 0, 3, 3)], [0.1, 0.2, 0.3])
    assert equal(three[np.array([False, True, True])], three[np.array([1, 2])])
    assert three[np.array([2, 0])].score.tolist() == pytest.approx([0.3, 0.1])


def test_the_best_box_goes_first_and_larger_ones_before_smaller_at_a_tie() -> None:
    found = boxes([(0, 0, 1, 1), (5, 5, 9, 9), (0, 0, 2, 2)], [0.5, 0.5, 0.8]).best_first()
    assert found.xyxy.tolist() == [[0, 0, 2, 2], [5, 5, 9, 9], [0, 0, 1, 1]]


@given(crowd=crowds(), seed=st.integers(0, 1000))
@settings(max_examples=100, deadline=None)
def test_sorting_does_not_depend_on_the_input_order(crowd: Boxes, seed: int) -> None:
    shuffled = crowd[np.random.default_rng(seed).permutation(len(crowd))]
    assert equal(shuffled.best_first(), crowd.best_first())


# --- IoU -------------------------------------------------------------------------------------------------------------


def test_iou_of_half_open_boxes() -> None:
    first = np.array([(0, 0, 10, 10)], np.float32)
    second = np.array([(0, 0, 10, 10), (5, 0, 15, 10), (10, 0, 20, 10), (2, 2, 4, 4), (30, 30, 40, 40)], np.float32)
    assert iou_matrix(first, second)[0].tolist() == pytest.approx([1, 50 / 150, 0, 0.04, 0])


def test_boxes_without_area_have_zero_iou() -> None:
    flat = np.array([(3, 3, 3, 3), (3, 3, 8, 3)], np.float32)
    assert (iou_matrix(flat, flat) == 0).all()


def test_iou_with_no_boxes_has_the_right_shape() -> None:
    none, two = np.zeros((0, 4), np.float32), np.ones((2, 4), np.float32)
    assert iou_matrix(none, two).shape == (0, 2)
    assert iou_matrix(two, none).shape == (2, 0)


@given(first=crowds(6), second=crowds(6))
@settings(max_examples=100, deadline=None)
def test_iou_is_between_0_and_1_and_symmetric(first: Boxes, second: Boxes) -> None:
    found = iou_matrix(first.xyxy, second.xyxy)
    assert found.dtype == np.float64
    assert ((found >= 0) & (found <= 1)).all()
    assert np.array_equal(found.T, iou_matrix(second.xyxy, first.xyxy))
    assert np.diag(iou_matrix(first.xyxy, first.xyxy)) == pytest.approx(1)


# --- the filter ------------------------------------------------------------------------------------------------------

PLAUSIBLE = [(10, 10, 30, 30), (0, 0, 100, 50), (40, 40, 42, 42), (10, 20, 90, 24)]


def kept(**rules: float) -> list[tuple[float, ...]]:
    all_of_them = boxes(PLAUSIBLE, [0.9] * 4)
    found = all_of_them[filter_mask(all_of_them, width=100, height=50, **rules)]
    return [tuple(row) for row in found.xyxy.tolist()]


def test_without_limits_every_box_is_kept() -> None:
    assert kept() == PLAUSIBLE


def test_boxes_below_the_smallest_area_are_removed() -> None:
    assert kept(min_area=0.01) == [PLAUSIBLE[0], PLAUSIBLE[1], PLAUSIBLE[3]]
    assert kept(min_area=0.08) == PLAUSIBLE[:2]


def test_boxes_above_the_largest_area_are_removed() -> None:
    assert kept(max_area=0.9) == [PLAUSIBLE[0], PLAUSIBLE[2], PLAUSIBLE[3]]
    assert kept(max_area=1.0) == PLAUSIBLE


def test_long_thin_boxes_are_removed() -> None:
    assert kept(max_aspect=19.9) == PLAUSIBLE[:3]
    assert kept(max_aspect=20) == PLAUSIBLE


@pytest.mark.parametrize(("box", "borders"), [
    ((10, 10, 20, 20), 0), ((0, 10, 20, 20), 1), ((10, 10, 100, 50), 2), ((0, 0, 100, 20), 3), ((0, 0, 100, 50), 4),
])  # fmt: skip
def test_boxes_that_touch_too_many_borders_are_removed(box: tuple[int, ...], borders: int) -> None:
    one = boxes([box], [0.9])
    assert filter_mask(one, width=100, height=50, max_borders=borders).tolist() == [True]
    if borders:
        assert filter_mask(one, width=100, height=50, max_borders=borders - 1).tolist() == [False]


def test_filtering_a_box_without_area_does_not_divide_by_zero() -> None:
    flat = boxes([(10, 10, 10, 20)], [0.9])
    assert filter_mask(flat, width=100, height=50, max_aspect=12).tolist() == [False]


def test_filtering_no_boxes_gives_no_boxes() -> None:
    assert filter_mask(Boxes.empty(), width=100, height=50, min_area=0.1, max_aspect=3, max_borders=3).tolist() == []


# --- the merge -------------------------------------------------------------------------------------------------------


def test_nms_keeps_the_best_box_and_counts_those_it_removed() -> None:
    found = merge_nms(boxes([(0, 0, 10, 10), (1, 0, 11, 10), (50, 50, 60, 60)], [0.6, 0.8, 0.7]), 0.5)
    assert found.xyxy.tolist() == [[1, 0, 11, 10], [50, 50, 60, 60]]
    assert found.merged_from.tolist() == [2, 1]


def test_nms_adds_up_earlier_merge_counts() -> None:
    found = merge_nms(boxes([(0, 0, 10, 10), (1, 0, 11, 10)], [0.8, 0.6], merged_from=[3, 4]), 0.5)
    assert found.merged_from.tolist() == [7]


def test_nms_of_a_chain_of_boxes_starts_at_the_best_one() -> None:
    found = merge_nms(boxes([(0, 0, 10, 10), (4, 0, 14, 10), (8, 0, 18, 10)], [0.9, 0.8, 0.7]), 0.4)
    assert found.xyxy[:, 0].tolist() == [0, 8]
    assert found.merged_from.tolist() == [2, 1]


@given(seed=st.integers(0, 10_000), count=st.integers(2, 90), spread=st.sampled_from([30, 200, 2000]))
@settings(max_examples=60, deadline=None)
def test_nms_keeps_the_same_boxes_as_torchvision(seed: int, count: int, spread: int) -> None:
    random = np.random.default_rng(seed)
    corners = random.uniform(0, spread, (count, 2))
    many = boxes(np.concatenate([corners, corners + random.uniform(5, 60, (count, 2))], axis=1), random.random(count))
    kept = nms(torch.from_numpy(many.xyxy), torch.from_numpy(many.score), 0.4).numpy()
    found = merge_nms(many, 0.4)
    assert found.xyxy.tolist() == many.xyxy[kept].tolist()
    assert found.merged_from.sum() == count


@pytest.mark.parametrize("iou", [0.1, 0.2, 0.3, 0.6, 0.9])
def test_an_iou_equal_to_the_limit_loses_no_count(iou: float) -> None:
    pair = boxes([(0, 0, 10, 10), (0, 0, 10 * iou, 10)], [0.9, 0.5])
    assert merge_nms(pair, iou).merged_from.sum() == 2


def test_box_fusion_weights_edges_by_score_and_keeps_the_best_score() -> None:
    found = merge_wbf(boxes([(0, 0, 10, 10), (2, 0, 12, 10)], [0.75, 0.25]), 0.5)
    assert found.xyxy.tolist() == [[0.5, 0, 10.5, 10]]
    assert found.score.tolist() == [0.75]
    assert found.merged_from.tolist() == [2]


def test_box_fusion_keeps_boxes_of_low_iou_apart() -> None:
    apart = boxes([(0, 0, 10, 10), (8, 0, 18, 10)], [0.5, 0.9])
    found = merge_wbf(apart, 0.5)
    assert found.xyxy.tolist() == [[8, 0, 18, 10], [0, 0, 10, 10]]
    assert found.merged_from.tolist() == [1, 1]


def test_box_fusion_of_zero_scores_is_the_plain_mean() -> None:
    assert merge_wbf(boxes([(0, 0, 10, 10), (2, 0, 12, 10)], [0, 0]), 0.5).xyxy.tolist() == [[1, 0, 11, 10]]


@pytest.mark.parametrize("merge", list(MERGERS.values()), ids=list(MERGERS))
def test_merging_no_box_or_one_box_changes_nothing(merge: object) -> None:
    one = boxes([(1, 2, 3, 4)], [0.5], merged_from=[5])
    assert equal(merge(one, 0.5), one)
    assert len(merge(Boxes.empty(), 0.5)) == 0


def test_without_merging_boxes_are_only_sorted() -> None:
    crowd = boxes([(0, 0, 10, 10), (0, 0, 10, 10)], [0.1, 0.9])
    assert MERGERS["none"](crowd, 0.5).score.tolist() == pytest.approx([0.9, 0.1])


@pytest.mark.parametrize("merge", list(MERGERS.values()), ids=list(MERGERS))
@given(crowd=crowds(), iou=overlaps)
@settings(max_examples=100, deadline=None)
def test_merging_preserves_the_number_of_merged_boxes(merge: object, crowd: Boxes, iou: float) -> None:
    found = merge(crowd, iou)
    assert found.merged_from.sum() == len(crowd)
    assert (found.merged_from >= 1).all()
    assert (np.diff(found.score) <= 0).all()


@pytest.mark.parametrize("merge", list(MERGERS.values()), ids=list(MERGERS))
@given(crowd=crowds(), iou=overlaps, seed=st.integers(0, 1000))
@settings(max_examples=100, deadline=None)
def test_merging_does_not_depend_on_the_input_order(merge: object, crowd: Boxes, iou: float, seed: int) -> None:
    shuffled = crowd[np.random.default_rng(seed).permutation(len(crowd))]
    assert equal(merge(shuffled, iou), merge(crowd, iou))


@given(crowd=crowds(), iou=overlaps)
@settings(max_examples=100, deadline=None)
def test_nms_returns_input_boxes_whose_iou_is_at_most_the_limit(crowd: Boxes, iou: float) -> None:
    found = merge_nms(crowd, iou)
    assert {tuple(row) for row in found.xyxy.tolist()} <= {tuple(row) for row in crowd.xyxy.tolist()}
    among = iou_matrix(found.xyxy, found.xyxy)
    np.fill_diagonal(among, 0)
    assert (among <= iou + 1e-6).all()


@given(crowd=crowds(), iou=overlaps)
@settings(max_examples=100, deadline=None)
def test_fused_boxes_stay_within_their_members(crowd: Boxes, iou: float) -> None:
    found = merge_wbf(crowd, iou)
    if len(crowd):
        assert (found.xyxy[:, :2].min(axis=0) >= crowd.xyxy[:, :2].min(axis=0) - 1e-4).all()
        assert (found.xyxy[:, 2:].max(axis=0) <= crowd.xyxy[:, 2:].max(axis=0) + 1e-4).all()
        assert found.score.max() == crowd.score.max()
