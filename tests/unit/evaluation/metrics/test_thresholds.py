"""Thresholds chosen with and without ground truth, checked by hand and against a slow implementation."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mining.errors import RunError
from mining.evaluation import score_run
from mining.evaluation.bootstrap import bootstrap_means
from mining.evaluation.boxes import Detections, TruthBoxes
from mining.evaluation.metrics.corloc import pair_results
from mining.evaluation.metrics.thresholds import (
    SHRINKAGE,
    assign_folds,
    best_position,
    class_positions,
    threshold_hits,
    threshold_scores,
)
from mining.evaluation.run_reading import CurveBlock
from mining.regions.map_thresholds import nearest_positions, stable_positions
from mining.reporting.score_rows import score_rows
from tests.unit.evaluation.conftest import World

GRID = np.array([0.2, 0.4, 0.6, 0.8])


def block(image: list[int], category: list[int], xyxy: Any) -> CurveBlock:
    boxes = np.asarray(xyxy, np.float32).reshape(len(image), len(GRID), 4)
    some = np.full(len(image), 0.4)
    return CurveBlock(np.array(image), np.array(category), boxes, boxes.any(axis=2).astype(np.uint8), some, some / 2)


def random_world(seed: int, pairs: int = 12) -> tuple[TruthBoxes, CurveBlock]:
    rng = np.random.default_rng(seed)

    def boxes(*shape: int) -> np.ndarray:
        corner = rng.integers(0, 40, (*shape, 2))
        return np.concatenate([corner, corner + rng.integers(1, 60, (*shape, 2))], axis=-1).astype(np.float64)

    image, category = np.divmod(rng.permutation(24)[:pairs], 3)
    of_truth = rng.integers(0, pairs, 2 * pairs)
    xyxy = boxes(2 * pairs)
    xywh = np.concatenate([xyxy[:, :2], xyxy[:, 2:] - xyxy[:, :2]], axis=1)
    truth = TruthBoxes(image[of_truth], category[of_truth], xywh, is_ignored=rng.random(2 * pairs) < 0.3)
    curves = boxes(pairs, len(GRID)) * (rng.random((pairs, len(GRID), 1)) < 0.8)
    return truth, block(image.tolist(), category.tolist(), curves)


# --- verdicts --------------------------------------------------------------------------------------------------------


@given(seed=st.integers(0, 10_000))
@settings(max_examples=40, deadline=None)
def test_the_curve_computed_at_once_is_corloc_level_by_level(seed: int) -> None:
    truth, curves = random_world(seed)
    found = threshold_hits(truth, GRID, [curves])
    for position in range(len(GRID)):
        xyxy = curves.xyxy[:, position].astype(np.float64)
        some = xyxy.any(axis=1)
        xywh = np.concatenate([xyxy[:, :2], xyxy[:, 2:] - xyxy[:, :2]], axis=1)[some]
        pairs = pair_results(
            truth, Detections(curves.image[some], curves.category[some], xywh, np.ones(int(some.sum())))
        )
        assert found.image.tolist() == pairs.image.tolist()
        assert found.category.tolist() == pairs.category.tolist()
        assert found.hit[:, position].tolist() == (pairs.best_iou >= 0.5).tolist()
        for iou, share in found.at.items():
            assert share[position] == pytest.approx((pairs.best_iou >= iou).mean())
        assert found.boxes[position] == pytest.approx(pairs.predictions.mean())


@given(seed=st.integers(0, 10_000), parts=st.integers(1, 12), order=st.permutations(range(12)))
@settings(max_examples=25, deadline=None)
def test_neither_order_nor_blocks_matter(seed: int, parts: int, order: list[int]) -> None:
    truth, curves = random_world(seed)
    shuffled = [CurveBlock(*(getattr(curves, name)[rows] for name in curves.__dataclass_fields__))
                for rows in np.array_split(np.array(order), parts)]  # fmt: skip
    first, again = threshold_hits(truth, GRID, [curves]), threshold_hits(truth, GRID, shuffled)
    assert first.hit.tolist() == again.hit.tolist()
    assert first.boxes == pytest.approx(again.boxes)
    assert {k: v.tolist() for k, v in first.by_map.items()} == {k: v.tolist() for k, v in again.by_map.items()}


def test_a_pair_without_a_curve_is_missed_and_a_curve_without_a_pair_left_out() -> None:
    truth = TruthBoxes([0, 1], [0, 0], [[0, 0, 10, 10], [0, 0, 10, 10]])
    here = [[0, 0, 10, 10]] * 4
    found = threshold_hits(truth, GRID, [block([0, 0, 5], [0, 1, 0], [here, here, here])])
    assert found.hit.tolist() == [[True] * 4, [False] * 4]
    assert found.boxes.tolist() == [0.5] * 4
    assert found.by_map["otsu"].tolist() == [1, -1]


# --- choosing --------------------------------------------------------------------------------------------------------


def test_of_equally_good_thresholds_the_middle_is_taken() -> None:
    assert best_position(np.array([0.1, 0.5, 0.5, 0.5, 0.2])) == 2
    assert best_position(np.array([0.0, 0.0])) == 1


@given(images=st.lists(st.integers(0, 30), min_size=1, max_size=60), seed=st.integers(0, 50))
@settings(max_examples=40, deadline=None)
def test_pairs_of_an_image_share_a_fold_and_folds_are_even(images: list[int], seed: int) -> None:
    fold = assign_folds(np.array(images), seed)
    of_image = {image: set(fold[np.array(images) == image].tolist()) for image in images}
    assert all(len(folds) == 1 for folds in of_image.values())
    sizes = np.bincount([next(iter(folds)) for folds in of_image.values()])
    assert len(sizes) == min(5, len(of_image))
    assert sizes.max() - sizes.min() <= 1


def test_few_pairs_of_a_class_say_little_against_all() -> None:
    others = np.tile([False, True, False, False], (100, 1))
    few, many = (np.tile([False, False, True, False], (count, 1)) for count in (SHRINKAGE // 2, 4 * SHRINKAGE))
    category = np.array([0] * 100 + [1] * len(few))
    assert class_positions(np.concatenate([others, few]), category) == {0: 1, 1: 1}
    category = np.array([0] * 100 + [1] * len(many))
    assert class_positions(np.concatenate([others, many]), category) == {0: 1, 1: 2}


def scores_of(hit: np.ndarray, image: np.ndarray, category: np.ndarray | None = None, **options: Any) -> dict[str, Any]:
    from mining.evaluation.metrics.thresholds import ThresholdHits

    pairs = len(hit)
    category = np.zeros(pairs, int) if category is None else category
    none = {name: np.full(pairs, -1) for name in ("stability", "otsu", "entropy")}
    verdicts = ThresholdHits(GRID, image, category, hit, {}, np.ones(len(GRID)), none)
    given_scores = threshold_scores(
        verdicts, options.pop("mined", hit[:, 0]), ["a", "b"], mined_at=0.2, seed=options.pop("seed", 0), resamples=50
    )
    assert given_scores is not None
    return given_scores


def test_an_image_has_no_say_in_how_it_is_cut_itself() -> None:
    """Each image is right at a threshold of its own: the oracle gets one of them, held out none."""
    found = scores_of(np.eye(4, dtype=bool), np.arange(4))
    assert found["oracle"]["corloc"] == 0.25
    assert found["chosen"]["corloc"] == 0
    assert found["per_class"]["corloc"] == 0


def test_the_threshold_that_most_want_is_chosen_in_every_fold() -> None:
    hit = np.tile([False, True, False, False], (40, 1))
    hit[:4] = [False, False, True, False]
    found = scores_of(hit, np.arange(40))
    assert found["chosen"]["threshold"] == found["oracle"]["threshold"] == 0.4
    assert found["chosen"]["fold_thresholds"] == [0.4] * 5
    assert found["chosen"]["corloc"] == found["oracle"]["corloc"] == pytest.approx(0.9)
    assert (found["mined"]["threshold"], found["mined"]["corloc"], found["mined"]["ci95"]) == (0.2, 0, [0, 0])
    assert found["chosen"]["over_mined"]["value"] == pytest.approx(0.9)
    low, high = found["chosen"]["over_mined"]["ci95"]
    assert 0.7 < low < 0.9 < high <= 1


def test_one_image_cannot_be_held_out() -> None:
    found = scores_of(np.ones((2, 4), bool), np.zeros(2, int))
    assert found["oracle"]["corloc"] == 1
    assert found["chosen"] == found["per_class"] == {"corloc": None, "ci95": None}


@given(seed=st.integers(0, 1000))
@settings(max_examples=30, deadline=None)
def test_the_oracle_is_never_beaten_by_what_is_chosen_in_common(seed: int) -> None:
    hit = np.random.default_rng(seed).random((20, 4)) < 0.5
    found = scores_of(hit, np.arange(20) // 2, seed=seed)
    assert found["chosen"]["corloc"] <= found["oracle"]["corloc"] == hit.mean(axis=0).max()


def test_without_pairs_there_are_no_threshold_scores() -> None:
    verdicts = threshold_hits(TruthBoxes([], [], np.empty((0, 4))), GRID, [])
    assert threshold_scores(verdicts, np.zeros(0, bool), [], mined_at=None, seed=0, resamples=10) is None


def test_intervals_of_several_means_are_those_of_each_alone() -> None:
    rng = np.random.default_rng(3)
    image, first, second = rng.integers(0, 30, 80), rng.random(80) < 0.4, rng.random(80)
    both = bootstrap_means(image, [first, second], seed=5, resamples=200)
    assert both == [bootstrap_means(image, [one], seed=5, resamples=200)[0] for one in (first, second)]
    assert all(low < one.mean() < high for (low, high), one in zip(both, (first, second), strict=True))
    assert bootstrap_means(image, [first], seed=5, resamples=0) == [None]


# --- thresholds of a map ---------------------------------------------------------------------------------------------


def test_the_stable_range_is_found_and_its_middle_taken() -> None:
    a, b, none = [0, 0, 100, 100], [0, 0, 50, 100], [0, 0, 0, 0]
    rows = [[a, b, b, b, none], [a, a, b, none, none], [none, a, b, none, none], [none] * 5]
    assert stable_positions(np.array(rows, np.float32)).tolist() == [2, 1, 1, -1]


def test_a_box_that_shrinks_a_little_at_a_time_is_the_same_box() -> None:
    side = np.array([100, 98, 96, 94, 60, 58], np.float32)
    rows = np.stack([0 * side, 0 * side, side, side], axis=1)[None]
    assert stable_positions(rows).tolist() == [2]


def test_the_nearest_threshold_is_taken_and_none_for_nothing() -> None:
    assert nearest_positions(np.array([0.0, 0.05, 0.31, 0.95]), GRID).tolist() == [-1, 0, 1, 3]


# --- of a run --------------------------------------------------------------------------------------------------------


def with_curves(world: World) -> World:
    """All four pairs, right at thresholds between 0.5 and 0.7 only."""

    def box_at(box: Any) -> Any:
        return lambda threshold: box if 0.5 <= threshold <= 0.7 else (0, 0, 100, 100) if threshold < 0.9 else None

    world.curves = [(name, category, box_at(box)) for name, category, box, _ in world.truth]
    return world


def test_a_run_is_scored_at_other_thresholds_too(world: World) -> None:
    thresholds = score_run(*with_curves(world).write())["thresholds"]
    assert thresholds["oracle"] == {**thresholds["oracle"], "corloc": 1.0, "threshold": 0.6}
    assert thresholds["chosen"]["corloc"] == 1
    assert (thresholds["mined"]["corloc"], thresholds["mined"]["threshold"]) == (0.5, None)
    curve = thresholds["curve"]
    right = {t: value for t, value in zip(curve["threshold"], curve["corloc"], strict=True) if value == 1}
    assert (min(right), max(right)) == (0.5, 0.7)
    assert curve["boxes_per_pair"][-1] == 0
    assert thresholds["otsu"]["corloc"] == 1, "each of these maps suggests 0.5"
    assert thresholds["entropy"]["corloc"] == 0.25, "0.3 is; one true box is most of its image"


def test_the_table_says_which_threshold_is_which(world: World) -> None:
    rows = {name: (value, meaning) for name, value, meaning in score_rows(score_run(*with_curves(world).write()))}
    assert rows["Threshold chosen"][0].startswith("100.0 % at 0.6 (95 %: 100.0 to 100.0)")
    assert rows["Threshold chosen"][1].endswith("; +50.0 points (95 %: +0.0 to +100.0) over the mined boxes")
    assert "upper bound" in rows["Threshold oracle"][1]
    assert rows["Threshold as mined"][0].startswith("50.0 % (")


def test_classes_and_images_that_only_one_side_has_are_left_out(world: World) -> None:
    with_curves(world).model_classes = ["dog", "cat", "horse"]
    world.corpus = ["z.jpg", *world.images]
    world.curves.append(("z.jpg", "horse", lambda threshold: (0, 0, 50, 50)))
    assert score_run(*world.write())["thresholds"]["oracle"]["corloc"] == 1


def test_a_run_without_curves_says_so(world: World) -> None:
    scores = score_run(*world.write())
    assert scores["thresholds"] is None
    assert "The run has no curves.parquet, so other thresholds cannot be scored." in scores["notes"]
    assert not any(name.startswith("Threshold") for name, *_ in score_rows(scores))


def test_damaged_curves_are_refused_by_name(world: World) -> None:
    run, truth = with_curves(world).write()
    whole = (run / "curves.parquet").read_bytes()
    (run / "curves.parquet").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(RunError, match=r"curves\.parquet is damaged"):
        score_run(run, truth)
