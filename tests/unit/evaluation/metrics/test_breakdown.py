"""Scores by size and by number of instances on hand-made boxes."""

import pytest

from mining.errors import ScoringError
from mining.evaluation import Detections, TruthBoxes, coco_scores
from mining.evaluation.boxes import compute_overlaps
from mining.evaluation.metrics.breakdown import breakdown_scores
from tests.unit.evaluation.by_hand import best_first, truth_of

CLASSES = ("cat", "dog")
SMALL, MEDIUM, LARGE = (0, 0, 20, 20), (100, 100, 50, 50), (200, 200, 200, 200)
NOWHERE = (400, 400, 20, 20)


def tables(truth: TruthBoxes, predicted: Detections, *, images: int = 10) -> dict:
    coco = coco_scores(truth, predicted, CLASSES)
    return breakdown_scores(truth, predicted, compute_overlaps(truth, predicted), coco, CLASSES, images=images)


def row_of_boxes(count: int, *, side: int = 20) -> list[tuple[float, float, float, float]]:
    return [(30 * i, 0, side, side) for i in range(count)]


# --- by size ---------------------------------------------------------------------------------------------------------


def test_objects_and_what_was_found_by_size() -> None:
    truth = truth_of((0, 0, SMALL), (0, 0, MEDIUM), (0, 0, LARGE), (1, 0, LARGE))
    found = tables(truth, best_first((0, 0, SMALL), (0, 0, LARGE)))["by_size"]
    assert {size: row["objects"] for size, row in found.items()} == {"small": 1, "medium": 1, "large": 2}
    assert {size: row["instance_recall"] for size, row in found.items()} == {"small": 1, "medium": 0, "large": 0.5}
    assert {size: row["AR"] for size, row in found.items()} == {"small": 1, "medium": 0, "large": 0.5}
    assert {size: row["AP"] for size, row in found.items()} == pytest.approx(
        {"small": 1, "medium": 0, "large": 51 / 101}
    )


def test_boxes_on_nothing_by_their_own_size() -> None:
    truth = truth_of((0, 0, SMALL))
    found = tables(truth, best_first((0, 0, SMALL), (0, 1, SMALL), (1, 0, NOWHERE), (1, 0, LARGE)), images=4)["by_size"]
    rates = {size: row["false_positives_per_image"] for size, row in found.items()}
    assert rates == {"small": 0.5, "medium": 0, "large": 0.25}


def test_an_object_of_just_the_border_is_of_both_sizes_as_in_coco() -> None:
    found = tables(truth_of((0, 0, (0, 0, 32, 32))), best_first())["by_size"]
    assert {size: row["objects"] for size, row in found.items()} == {"small": 1, "medium": 1, "large": 0}


def test_a_size_without_objects_has_no_shares() -> None:
    row = tables(truth_of((0, 0, SMALL)), best_first())["by_size"]["large"]
    assert row == {"objects": 0, "AP": None, "AR": None, "instance_recall": None, "false_positives_per_image": 0}


# --- by instances ----------------------------------------------------------------------------------------------------


def test_pairs_and_objects_by_number_of_instances() -> None:
    rows = [(image, 0, box) for image, count in enumerate((1, 1, 2, 3, 4, 5, 9)) for box in row_of_boxes(count)]
    found = tables(truth_of(*rows), best_first())["by_instances"]
    assert {name: row["pairs"] for name, row in found.items()} == {"0": 0, "1": 2, "2": 1, "3-4": 2, "5+": 2}
    assert {name: row["objects"] for name, row in found.items()} == {"0": 0, "1": 2, "2": 2, "3-4": 7, "5+": 14}


def test_one_box_over_two_neighbours_fails_only_where_there_are_two() -> None:
    truth = truth_of((0, 0, (0, 0, 50, 50)), (1, 0, (0, 0, 50, 50)), (1, 0, (60, 0, 50, 50)))
    found = tables(truth, best_first((0, 0, (0, 0, 50, 50)), (1, 0, (0, 0, 110, 50))))["by_instances"]
    figures = ("AP", "AP50", "AR", "corloc", "any_box", "instance_recall", "false_positives_per_image")
    assert [found["1"][name] for name in figures] == pytest.approx([1, 1, 1, 1, 1, 1, 0])
    assert [found["2"][name] for name in figures] == pytest.approx([0, 0, 0, 0, 0, 0, 0.1])


def test_hit_rates_that_differ_in_one_pair() -> None:
    """Of two instances the second-best box covers one, the best none."""
    truth = truth_of((0, 0, SMALL), (0, 0, MEDIUM))
    row = tables(truth, best_first((0, 0, NOWHERE), (0, 0, MEDIUM)))["by_instances"]["2"]
    assert (row["corloc"], row["any_box"], row["instance_recall"]) == (0, 1, 0.5)
    assert (row["boxes"], row["false_positives_per_image"]) == (2, 0.1)


def test_boxes_of_classes_that_the_image_lacks_stand_in_a_row_of_their_own() -> None:
    truth = truth_of((0, 0, SMALL))
    found = tables(truth, best_first((0, 0, SMALL), (0, 1, SMALL), (1, 0, SMALL)))["by_instances"]
    assert found["0"]["boxes"] == 2
    assert found["0"]["false_positives_per_image"] == 0.2
    assert found["0"]["AP"] is None
    assert found["1"]["boxes"] == 1


def test_difficult_boxes_are_no_instances_and_no_false_positives() -> None:
    truth = truth_of((0, 0, SMALL), (0, 0, MEDIUM), (1, 0, MEDIUM), ignored=(1, 2))
    found = tables(truth, best_first((0, 0, SMALL), (0, 0, MEDIUM), (1, 0, MEDIUM)))["by_instances"]
    assert (found["1"]["objects"], found["1"]["AP"]) == (1, pytest.approx(1))
    assert found["0"]["boxes"] == 1
    assert all(row["false_positives_per_image"] == 0 for row in found.values())


def test_the_rows_of_each_table_add_up_to_the_whole() -> None:
    truth = truth_of(*((0, 0, box) for box in row_of_boxes(3)), (1, 1, MEDIUM), (2, 0, LARGE), ignored=(2,))
    predicted = best_first(*((image, c, box) for image in range(3) for c in range(2) for box in (SMALL, MEDIUM, LARGE)))
    for rows in (tables(truth, predicted)[name].values() for name in ("by_size", "by_instances")):
        assert sum(row["objects"] for row in rows) == 4
        assert sum(row["false_positives_per_image"] for row in rows) == pytest.approx((18 - 3) / 10)


# --- nothing ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("truth", [truth_of(), truth_of((0, 0, SMALL), ignored=(0,))])
def test_a_truth_without_countable_boxes_has_no_shares(truth: TruthBoxes) -> None:
    found = tables(truth, best_first((0, 0, NOWHERE)))
    for row in (*found["by_size"].values(), *found["by_instances"].values()):
        assert {row["AP"], row["AR"], row["instance_recall"]} == {None}
    assert found["by_instances"]["0"]["false_positives_per_image"] == 0.1


def test_no_prediction_scores_0() -> None:
    row = tables(truth_of((0, 0, SMALL)), best_first())["by_instances"]["1"]
    assert (row["AP"], row["corloc"], row["false_positives_per_image"]) == (0, 0, 0)


def test_no_image_is_refused() -> None:
    with pytest.raises(ScoringError, match="0 images were scored"):
        tables(truth_of(), best_first(), images=0)
