"""Properties that hold for every protocol on any boxes."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mining.evaluation import Detections, TruthBoxes, coco_scores
from mining.evaluation.boxes import compute_overlaps
from mining.evaluation.metrics.breakdown import breakdown_scores
from mining.evaluation.metrics.corloc import corloc
from mining.evaluation.metrics.localization import localization_scores
from mining.evaluation.metrics.voc import voc_scores
from tests.oracles.protocols.mldfr import macro_corloc, mldfr_scores
from tests.oracles.protocols.nlccam import nlccam_scores

IMAGES, CLASSES = 5, ("cat", "dog", "cow")
Numbers = dict[str, float | None]


@dataclass(frozen=True)
class Case:
    """class_scores: (IMAGES, classes)."""

    truth: TruthBoxes
    predicted: Detections
    class_scores: np.ndarray

    @property
    def ranked(self) -> np.ndarray:
        return np.argsort(-self.class_scores, axis=1)

    @property
    def labelled(self) -> np.ndarray:
        labels = np.zeros((IMAGES, len(CLASSES)), bool)
        labels[self.truth.image[self.truth.is_countable], self.truth.category[self.truth.is_countable]] = True
        return labels

    @property
    def with_one_label(self) -> "Case":
        """The same, the class of a box being one that its image has."""
        label = (self.class_scores[:, 0] > 0.5).astype(int)
        truth, predicted = (replace(boxes, category=label[boxes.image]) for boxes in (self.truth, self.predicted))
        return replace(self, truth=truth, predicted=predicted)

    def with_images_in_order(self, order: np.ndarray) -> "Case":
        """Image order[i] in the place of image i; rows stay in order within each image."""
        place = np.argsort(order)
        truth, predicted = (replace(boxes, image=place[boxes.image]) for boxes in (self.truth, self.predicted))
        return Case(_by_image(truth), _by_image(predicted), self.class_scores[order])

    def moved(self, x: int, y: int) -> "Case":
        by = np.array([x, y, 0, 0])
        truth, predicted = (replace(boxes, xywh=boxes.xywh + by) for boxes in (self.truth, self.predicted))
        return replace(self, truth=truth, predicted=predicted)


def _by_image(boxes: TruthBoxes | Detections) -> TruthBoxes | Detections:
    order = np.argsort(boxes.image, kind="stable")
    return type(boxes)(**{name: column[order] for name, column in vars(boxes).items() if name != "xyxy"})


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """Few images and classes, boxes on a coarse grid of small to large ones, no box twice, no score twice."""
    corner, side = st.sampled_from([0, 8, 16, 60]), st.sampled_from([8, 16, 24, 60, 120])
    row = st.tuples(st.integers(0, IMAGES - 1), st.integers(0, len(CLASSES) - 1), corner, corner, side, side)
    rows = st.lists(row, max_size=25, unique=True).map(lambda found: np.array(found, int).reshape(-1, 6))
    true, seen = draw(rows), draw(rows)
    ignored = draw(st.lists(st.booleans(), min_size=len(true), max_size=len(true)))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    truth = TruthBoxes(true[:, 0], true[:, 1], true[:, 2:], is_ignored=np.array(ignored, bool))
    scores = rng.permutation(len(seen)) / 32
    return Case(truth, Detections(seen[:, 0], seen[:, 1], seen[:, 2:], scores), rng.random((IMAGES, len(CLASSES))))


def corloc_of(case: Case) -> Numbers:
    return {"corloc": corloc(case.truth, case.predicted)}


def voc_of(case: Case) -> Numbers:
    return numbers(voc_scores(case.truth, case.predicted, CLASSES))


def localization_of(case: Case) -> Numbers:
    return numbers(localization_scores(case.truth, case.predicted, case.ranked))


def mldfr_of(case: Case) -> Numbers:
    one = case.with_one_label
    several = {"several labels": macro_corloc(case.truth, case.predicted, case.labelled)}
    return several | numbers(mldfr_scores(one.truth, one.predicted, one.class_scores))


def nlccam_of(case: Case) -> Numbers:
    return numbers(nlccam_scores(case.truth, case.predicted, case.ranked))


def breakdown_of(case: Case) -> Numbers:
    boxes = case.truth, case.predicted
    coco = coco_scores(*boxes, CLASSES)
    return numbers(breakdown_scores(*boxes, compute_overlaps(*boxes), coco, CLASSES, images=IMAGES))


PROTOCOLS = [corloc_of, voc_of, localization_of, mldfr_of, nlccam_of, breakdown_of]


def numbers(scores: dict, at: str = "") -> Numbers:
    """The numbers of a nested record by their path."""
    found: Numbers = {}
    for name, value in scores.items():
        if isinstance(value, dict):
            found |= numbers(value, f"{at}{name}/")
        elif not isinstance(value, str):
            found[at + name] = value
    return found


# --- the properties --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", PROTOCOLS)
@settings(max_examples=40, deadline=None)
@given(case=cases(), seed=st.integers(0, 2**32))
def test_the_order_of_images_changes_nothing(protocol: Callable[[Case], Numbers], case: Case, seed: int) -> None:
    permuted = case.with_images_in_order(np.random.default_rng(seed).permutation(IMAGES))
    assert protocol(permuted) == pytest.approx(protocol(case))


@pytest.mark.parametrize("protocol", PROTOCOLS)
@settings(max_examples=40, deadline=None)
@given(case=cases(), x=st.integers(-200, 200), y=st.integers(-200, 200))
def test_moving_truth_and_predictions_alike_changes_nothing(
    protocol: Callable[[Case], Numbers], case: Case, x: int, y: int
) -> None:
    assert protocol(case.moved(x, y)) == pytest.approx(protocol(case))


@pytest.mark.parametrize("protocol", PROTOCOLS)
@settings(max_examples=40, deadline=None)
@given(case=cases())
def test_no_figure_is_nan_and_no_share_leaves_0_to_1(protocol: Callable[[Case], Numbers], case: Case) -> None:
    counts = ("objects", "pairs", "boxes", "images", "images_ranked", "false_positives_per_image")
    for name, value in protocol(case).items():
        if value is not None:
            assert value >= 0, name
            assert value <= 1 or name.endswith(counts), name


@pytest.mark.parametrize("protocol", PROTOCOLS)
@settings(max_examples=40, deadline=None)
@given(case=cases())
def test_perfect_boxes_score_1(protocol: Callable[[Case], Numbers], case: Case) -> None:
    true = case.truth.where(case.truth.is_countable)
    perfect = Detections(true.image, true.category, true.xywh, np.arange(len(true)))
    found = protocol(replace(case, predicted=perfect, class_scores=case.labelled + case.class_scores / 2))
    asked = (
        "corloc",
        "AP",
        "AR",
        "AP50",
        "AP_11_point",
        "AP_all_point",
        "any_box",
        "instance_recall",
        "several labels",
    )
    for name, value in found.items():
        last = name.rpartition("/")[2]
        if last in asked or name in ("gt_known_loc/accuracy", "top5_loc/accuracy", "top5_cls/accuracy"):
            assert value is None or value == pytest.approx(1), name
        if last == "false_positives_per_image":
            assert not value, name
    if len(true):
        assert any(value == pytest.approx(1) for value in found.values() if value is not None)
